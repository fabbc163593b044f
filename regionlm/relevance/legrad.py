"""LeGrad of the last block as an explicit function of the token, with an explicit derivative.

For a token t of the joint space, LeGrad (Bousselham et al. 2024; MaskInversion, eq. 1-4) asks how
the score of the image against t changes with the last block's attention: ``E_j = mean over heads
and queries of relu(dscore / dA)[:, :, j]``. Two scores are known:

- ``"cosine"`` (the paper's and the published code's): ``t . f / |f|``;
- ``"dot"`` (the paper's eq. 6, without the norm): ``t . f``, for models that pool the mean of their
  patches. There f *is* the image embedding, where t starts, so the cosine is at its maximum and its
  gradient is zero.

f is ``ln_post(mean of the last block's output over head.score_tokens) @ proj``. Everything before
the relu is linear in t, so nothing here uses autograd; ``relevance.autograd`` is the slow check.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from regionlm.backbones.clip_vit import EncodedImages, Head
from regionlm.relevance.attention_gradient import AttentionGradient
from regionlm.relevance.query_map import MergedWeights, QueryMap

Score = Literal["cosine", "dot"]


@dataclass(frozen=True)
class Budget:
    """Buffer sizes in float32 elements; they bound memory whatever the image size or mask count."""

    chunk: int  # per group of masks worked on together
    piece: int  # part of the attention gradient worked on at once
    keep: int  # of the attention gradient's sign pattern kept for the backward pass

    @classmethod
    def for_device(cls, device: torch.device) -> Budget:
        """Cache-sized on a CPU; large enough to fill an accelerator elsewhere."""
        if device.type == "cpu":
            return cls(chunk=4_000_000, piece=700_000, keep=64_000_000)
        return cls(chunk=400_000_000, piece=200_000_000, keep=400_000_000)


def default_score(head: Head) -> Score:
    """``"cosine"`` for [CLS]-pooled models, ``"dot"`` for mean-pooled ones."""
    return "dot" if head.pooling == "mean" else "cosine"


class LeGrad:
    """Relevance maps of one encoded image for any number of tokens, a chunk of masks at a time.

    Args:
        images: what ``ClipViT.encode`` returned.
        index: which image of the batch.
        score: ``"cosine"`` or ``"dot"``; default: what suits the model's pooling.
        weights: merged weights of ``images.head.block`` (made here when not given).
        masks: how many tokens will be asked for at most; buffers are no larger than needed.
        budget: buffer sizes; default: by device.
    """

    @torch.no_grad()
    def __init__(
        self,
        images: EncodedImages,
        index: int = 0,
        *,
        score: Score | None = None,
        weights: MergedWeights | None = None,
        masks: int = 1,
        budget: Budget | None = None,
    ) -> None:
        head = images.head
        weights = weights or MergedWeights.of(head.block)
        budget = budget or Budget.for_device(images.residual.device)
        tokens, wide = head.score_tokens, weights.mlp_to_heads.dtype
        residual = images.residual[index, tokens]
        hidden = images.pre_activation[index, tokens]
        values = images.values[index, :, 1:].to(wide)  # the [CLS] column is dropped from the map
        n, total = len(residual), images.residual.shape[1]
        per_mask = n * (2 * residual.shape[1] + hidden.shape[1] + len(values) * total)
        self.grid = images.grid
        self.chunk = max(1, min(masks, budget.chunk // per_mask))
        """Most tokens one ``forward`` takes."""
        self._readout = _Readout(
            head, images.score_mean[index].to(wide), score or default_score(head), n
        )
        self._queries = QueryMap(
            weights, head.block.activation, head.block.norm_2.eps, residual, hidden, self.chunk
        )
        self._attention = AttentionGradient(
            values, n, self.chunk, piece=budget.piece, keep=budget.keep
        )
        self._mean = 1 / (len(values) * total)

    @torch.no_grad()
    def forward(self, tokens: Tensor) -> Tensor:
        """Maps ``[m, gh, gw]``, raw and >= 0, of tokens ``[m, d]``, m <= ``chunk``."""
        q = self._queries.forward(self._readout.forward(tokens))
        return (self._attention.forward(q) * self._mean).view(-1, *self.grid)

    @torch.no_grad()
    def backward(self, dmaps: Tensor) -> Tensor:
        """Gradient ``[m, d]`` at the last ``forward``'s tokens, given ``[m, gh, gw]`` at its maps.

        After a forward of a single token m may be larger: m losses of the same map.
        """
        parts = (dmaps.flatten(1) * self._mean).split(self.chunk)
        du = [self._queries.backward(self._attention.backward(part)) for part in parts]
        return self._readout.backward(torch.cat(du))


class _Readout:
    """``t -> u``: gradient of the score at each of the n pooled tokens (the same for all)."""

    def __init__(self, head: Head, pooled: Tensor, score: Score, n: int) -> None:
        wide = pooled.dtype
        proj = head.proj.to(wide)
        norm = head.norm.to(wide)
        variance, mean = torch.var_mean(pooled, correction=0)
        inverse_sigma = torch.rsqrt(variance + norm.eps)
        hat = (pooled - mean) * inverse_sigma
        slope = norm.weight[:, None] * proj  # then the norm's transposed Jacobian, column by column
        slope = slope - slope.mean(0) - hat[:, None] * (hat @ slope / len(hat))
        self.matrix = slope * (inverse_sigma / n)  # [D, d]
        self.direction: Tensor | None = None
        if score == "cosine":
            f = norm(pooled) @ proj
            length = f.norm().clamp_min(torch.finfo(wide).tiny)
            self.direction = f / length
            self.matrix = self.matrix / length

    def forward(self, tokens: Tensor) -> Tensor:
        return self._remove_direction(tokens) @ self.matrix.T

    def backward(self, du: Tensor) -> Tensor:
        return self._remove_direction(du @ self.matrix, exact=True)

    def _remove_direction(self, tokens: Tensor, exact: bool = False) -> Tensor:
        """Off f's direction: the cosine doesn't change along it. A token that *is* that direction
        up to rounding gives exact zeros, not noise that min-max would blow up to a full map."""
        if self.direction is None:
            return tokens
        rest = tokens - (tokens @ self.direction)[:, None] * self.direction
        if exact:
            return rest
        noise = 100 * torch.finfo(tokens.dtype).eps * tokens.norm(dim=1, keepdim=True)
        return torch.where(rest.norm(dim=1, keepdim=True) > noise, rest, torch.zeros_like(rest))
