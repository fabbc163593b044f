"""GradCAM of the last block's output as an explicit function of the token."""

from __future__ import annotations

import torch
from torch import Tensor

from regionlm.backbones.attention_pool import AttentionPool
from regionlm.backbones.vision import EncodedImages
from regionlm.relevance.budget import Budget
from regionlm.relevance.pool_gradient import summed_token_gradient
from regionlm.relevance.products import by_row
from regionlm.relevance.query_map import MergedWeights, QueryMap
from regionlm.relevance.score import Score, ScoreGradient


class GradCam:
    """``E = relu(sum over channels k of alpha_k A_k)``, ``alpha_k`` the sum over positions of
    ``dscore / dA_k``, for one encoded image.

    Selvaraju et al. 2017 (arXiv 1610.02391) as MaskInversion's Table 8 compares it, with and
    without the final relu. The code of those rows is not published, so these are choices:

    - A is the last block's output, before ``ln_post``: the last layer that has a map of tokens;
    - the score is LeGrad's (``relevance.score``), so that methods differ in nothing else. (A score
      that reads [CLS] alone has no gradient at the other tokens of this layer.)
    - positions are the patches; [CLS] has no place in the map. Every token that the score pools has
      the same gradient, so including [CLS], or a mean for the sum, only scales the map, which
      min-max scaling undoes.

    So the map is linear in the token before the relu, and ``ln_post`` makes its sum over the tokens
    that the score pools nearly zero: without the relu, what lights one patch darkens another. Where
    the relu leaves nothing ([CLS] alone speaks for the token), the map is all zeros and so is its
    gradient: an inversion that starts there stays at the image embedding.

    An attention pool reads each token differently, so there ``alpha_k`` is a sum of gradients that
    differ (``relevance.pool_gradient``); it is linear in the token all the same.

    Args:
        images: what ``ClipViT.encode`` returned.
        index: which image of the batch.
        relu: keep positive relevance only; without, maps have negative values, too.
        score: ``"cosine"`` or ``"dot"``; default: what suits the model's pooling.
        weights: merged weights of an attention pool (made here when not given).
        masks: how many tokens will be asked for at most.
        budget: buffer sizes; default: by device.
    """

    @torch.no_grad()
    def __init__(
        self,
        images: EncodedImages,
        index: int = 0,
        *,
        relu: bool = True,
        score: Score | None = None,
        weights: MergedWeights | None = None,
        masks: int = 1,
        budget: Budget | None = None,
    ) -> None:
        budget = budget or Budget.for_device(images.residual.device)
        wide = torch.promote_types(images.residual.dtype, torch.float32)
        self._score = ScoreGradient(images, index, score, wide)
        pool, places = images.head.block, slice(images.head.prefix, None)
        if isinstance(pool, AttentionPool):
            seen = images.block_input[index]
            through = summed_token_gradient(pool, seen, images.head.prefix)
            self._patches = seen[places].to(wide) @ through
        else:
            hidden = pool.hidden(images.pre_activation[index, places])
            patches = images.residual[index, places] + pool.mlp_output(hidden)
            self._patches = patches.to(wide) * len(patches)  # the sum over equal gradients
        self._relu = relu
        self._active = torch.empty(0)
        self.grid = images.grid
        self.chunk = max(1, min(masks, budget.chunk // sum(self._patches.shape)))
        """Most tokens one ``forward`` takes."""
        self._pool: QueryMap | None = None
        if isinstance(pool, AttentionPool):
            merged = weights or MergedWeights.of(pool)
            streams = images.residual[index], images.pre_activation[index]
            self._pool = QueryMap(merged, pool, *streams, self.chunk)

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Maps ``[m, gh, gw]``, raw, of tokens ``[m, d]``."""
        alpha = self._score.forward(tokens)
        if self._pool is not None:
            alpha = self._pool.forward(alpha)[:, 0]
        maps = by_row(alpha, self._patches.T)
        if self._relu:
            self._active = maps > 0
            maps = maps.relu_()
        return maps.view(-1, *self.grid)

    @torch.no_grad()
    def backward(self, dmaps: Tensor) -> Tensor:
        """Gradient ``[m, d]`` at the last ``forward``'s tokens, given ``[m, gh, gw]`` at its maps.

        After a forward of a single token m may be larger: m losses of the same map.
        """
        dmaps = dmaps.flatten(1)
        if self._relu:
            dmaps = dmaps * self._active
        dalpha = by_row(dmaps, self._patches)
        if self._pool is not None:
            dalpha = torch.cat([self._pool.backward(p[:, None]) for p in dalpha.split(self.chunk)])
        return self._score.backward(dalpha)
