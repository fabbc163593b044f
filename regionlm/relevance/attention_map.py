"""Maps made of the gradient of the score with respect to the last block's attention.

What LeGrad and CheferCAM have in common: ``E_j = mean over heads h and rows i of
weight_h[i, j] * relu(dscore / dA_h[i, j])``, j a patch. Everything before the relu is linear in the
token, so nothing here uses autograd; ``relevance.legrad_autograd`` is the slow check.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from regionlm.backbones.vision import EncodedImages
from regionlm.relevance.attention_gradient import AttentionGradient
from regionlm.relevance.budget import Budget
from regionlm.relevance.query_map import MergedWeights, QueryMap
from regionlm.relevance.score import Score, ScoreGradient


def elements_per_mask(images: EncodedImages, queries: int) -> int:
    """Numbers that are worked on for one mask of an image."""
    heads, tokens = images.values.shape[1:3]
    return queries * (
        2 * images.residual.shape[2] + images.pre_activation.shape[2] + heads * tokens
    )


class AttentionMap:
    """Such maps of one encoded image for any number of tokens, a chunk of masks at a time.

    Args:
        images: what ``ClipViT.encode`` returned.
        index: which image of the batch.
        rows: the queries whose gradient is used, as a slice or ``[n]`` int64; others have none or
            don't count.
        averaged: what the sum over the rows is divided by, beside the number of heads.
        factors: weights of the gradient's entries, ``[heads, rows, gh * gw]``, >= 0; None: all 1.
        score: ``"cosine"`` or ``"dot"``; default: what suits the model's pooling.
        weights: merged weights of ``images.head.block`` (made here when not given).
        masks: how many tokens will be asked for at most; buffers are no larger than needed.
        budget: buffer sizes; default: by device.
    """

    def __init__(
        self,
        images: EncodedImages,
        index: int,
        *,
        rows: slice | Tensor,
        averaged: float,
        factors: Tensor | None,
        score: Score | None,
        weights: MergedWeights | None,
        masks: int,
        budget: Budget | None,
    ) -> None:
        block = images.head.block
        weights = weights or MergedWeights.of(block)
        budget = budget or Budget.for_device(images.residual.device)
        wide = weights.mlp_to_heads.dtype
        residual, hidden = images.residual[index, rows], images.pre_activation[index, rows]
        values = images.values[index, :, images.head.prefix :].to(wide)  # a map is of patches
        n = len(residual)
        self.grid = images.grid
        self.chunk = max(1, min(masks, budget.chunk // elements_per_mask(images, n)))
        """Most tokens one ``forward`` takes."""
        self._score = ScoreGradient(images, index, score, wide)
        mixed = None
        if block.norm_mixed is not None:
            mixed = block.mix(images.block_input[index, None])[0][0].transpose(0, 1).flatten(1)
            mixed = mixed[rows]
        self._queries = QueryMap(weights, block, residual, hidden, self.chunk, mixed)
        self._attention = AttentionGradient(
            values, n, self.chunk, factors=factors, piece=budget.piece, keep=budget.keep
        )
        self._mean = 1 / (len(values) * averaged)

    @classmethod
    def together(cls, maps: Sequence[AttentionMap], counts: Sequence[int]) -> AttentionMap:
        """The maps of several images as one: its tokens are so many of each image, in order.

        They are of one model and grid.
        """
        made = copy(maps[0])
        made.chunk = sum(counts)
        made._score = ScoreGradient.together([one._score for one in maps], counts)
        made._queries = QueryMap.together([one._queries for one in maps], counts)
        made._attention = AttentionGradient.together([one._attention for one in maps], counts)
        return made

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Maps ``[m, gh, gw]``, raw and >= 0, of tokens ``[m, d]``, m <= ``chunk``."""
        q = self._queries.forward(self._score.forward(tokens))
        return (self._attention.forward(q) * self._mean).view(-1, *self.grid)

    @torch.no_grad()
    def backward(self, dmaps: Tensor) -> Tensor:
        """Gradient ``[m, d]`` at the last ``forward``'s tokens, given ``[m, gh, gw]`` at its maps.

        After a forward of a single token m may be larger: m losses of the same map.
        """
        parts = (dmaps.flatten(1) * self._mean).split(self.chunk)
        du = [self._queries.backward(self._attention.backward(part)) for part in parts]
        return self._score.backward(torch.cat(du))
