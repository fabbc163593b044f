"""GradCAM of the last block's output as an explicit function of the token."""

from __future__ import annotations

import torch
from torch import Tensor

from regionlm.backbones.vision import EncodedImages
from regionlm.relevance.budget import Budget
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

    Args:
        images: what ``ClipViT.encode`` returned.
        index: which image of the batch.
        relu: keep positive relevance only; without, maps have negative values, too.
        score: ``"cosine"`` or ``"dot"``; default: what suits the model's pooling.
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
        masks: int = 1,
        budget: Budget | None = None,
    ) -> None:
        budget = budget or Budget.for_device(images.residual.device)
        block = images.head.block
        wide = torch.promote_types(images.residual.dtype, torch.float32)
        places = slice(images.head.prefix, None)
        hidden = block.hidden(images.pre_activation[index, places])
        patches = images.residual[index, places] + block.mlp_output(hidden)
        self._patches = patches.to(wide) * len(patches)  # the sum over equal gradients
        self._score = ScoreGradient(images, index, score, wide)
        self._relu = relu
        self._active = torch.empty(0)
        self.grid = images.grid
        self.chunk = max(1, min(masks, budget.chunk // sum(patches.shape)))
        """Most tokens one ``forward`` takes."""

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Maps ``[m, gh, gw]``, raw, of tokens ``[m, d]``."""
        maps = self._score.forward(tokens) @ self._patches.T
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
        return self._score.backward(dmaps @ self._patches)
