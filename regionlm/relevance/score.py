"""The score that relevance maps explain, and its gradient at the tokens that it pools.

For a token t of the joint space, there are two scores of an image:

- ``"cosine"`` (MaskInversion's and LeGrad's published code): ``t . f / |f|``;
- ``"dot"`` (MaskInversion's eq. 6, without the norm): ``t . f``, for models that pool the mean of
  their patches, or with attention. There f *is* the image embedding, where t starts, so the cosine
  is at its maximum and its gradient is zero.

f is ``head.readout(mean of the last block's output over head.score_tokens)``.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Literal

import torch
from torch import Tensor

from regionlm.backbones.vision import EncodedImages, Head
from regionlm.relevance.products import each_by, for_each, spread, stacked

Score = Literal["cosine", "dot"]
ScoreName = Literal["cosine", "dot", "published"]
"""The scores, and what `regionlm.relevance.published` makes of one."""


def default_score(head: Head) -> Score:
    """``"cosine"`` for [CLS]-pooled models, ``"dot"`` for the others."""
    return "cosine" if head.pooling == "cls" else "dot"


class ScoreGradient:
    """``t -> u``: gradient of the score at each of the pooled tokens of the last block's output.

    It is the same vector for all of them (the score reads their mean), and linear in t.

    Args:
        images: what ``ClipViT.encode`` returned.
        index: which image of the batch.
        score: ``"cosine"`` or ``"dot"``; default: what suits the model's pooling.
        dtype: to compute in.
    """

    def __init__(
        self, images: EncodedImages, index: int, score: Score | None, dtype: torch.dtype
    ) -> None:
        head = images.head
        pooled = images.score_mean[index].to(dtype)
        n = len(images.residual[index, head.score_tokens])
        slope = torch.eye(len(pooled)).to(pooled) if head.proj is None else head.proj.to(dtype)
        f = pooled
        if head.norm is not None:
            norm = head.norm.to(dtype)
            variance, mean = torch.var_mean(pooled, correction=0)
            inverse_sigma = torch.rsqrt(variance + norm.eps)
            hat = (pooled - mean) * inverse_sigma
            slope = norm.weight[:, None] * slope  # then its transposed Jacobian, column by column
            slope = slope - slope.mean(0) - hat[:, None] * (hat @ slope / len(hat))
            slope *= inverse_sigma
            f = norm(pooled)
        matrix = slope / n  # [D, d]
        # Of all masks, or of each: see `together`.
        self._direction: Tensor | None = None  # [1 or m, d]
        if (score or default_score(head)) == "cosine":
            f = f if head.proj is None else f @ head.proj.to(dtype)
            if head.proj_bias is not None:
                f = f + head.proj_bias.to(dtype)
            length = f.norm().clamp_min(torch.finfo(dtype).tiny)
            self._direction = (f / length)[None]
            matrix = matrix / length
        self._matrix = [matrix]

    @classmethod
    def together(cls, scores: Sequence[ScoreGradient], counts: Sequence[int]) -> ScoreGradient:
        """The scores of several images as one, for so many tokens of each, in order."""
        made = copy(scores[0])
        made._matrix = spread([one._matrix[0] for one in scores], counts)
        directions = [one._direction for one in scores if one._direction is not None]
        made._direction = stacked(directions, counts) if directions else None
        return made

    def forward(self, tokens: Tensor) -> Tensor:
        """Tokens ``[m, d]`` to gradients ``u [m, D]``."""
        matrices = [one.T for one in for_each(self._matrix, len(tokens))]
        return each_by(self._remove_direction(tokens), matrices)

    def backward(self, du: Tensor) -> Tensor:
        """The transposed map, ``[m, D]`` to ``[m, d]``."""
        return self._remove_direction(each_by(du, for_each(self._matrix, len(du))), exact=True)

    def _remove_direction(self, tokens: Tensor, exact: bool = False) -> Tensor:
        """Off f's direction: the cosine doesn't change along it. A token that *is* that direction
        up to rounding gives exact zeros, not noise that min-max would blow up to a full map."""
        if self._direction is None:
            return tokens
        along = (tokens * self._direction).sum(1, keepdim=True)
        rest = tokens - along * self._direction
        if exact:
            return rest
        noise = 100 * torch.finfo(tokens.dtype).eps * tokens.norm(dim=1, keepdim=True)
        return torch.where(rest.norm(dim=1, keepdim=True) > noise, rest, torch.zeros_like(rest))
