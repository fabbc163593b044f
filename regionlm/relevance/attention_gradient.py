"""Weighted sum over heads and queries of relu(q . v) per key, never held for all masks at once.

``G_h[i, j] = q_h[i] . v_h[j]`` is the gradient of the score with respect to the attention of head
h, query i, key j. The backward pass needs only the sign of G, as zeros and ones. No product has
rows of two masks, so a mask's sums don't depend on the others, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from copy import copy
from dataclasses import dataclass

import torch
from torch import Tensor

from regionlm.relevance.products import for_each, part_of, spread, stacked


@dataclass(frozen=True)
class _Piece:
    """A part of G that is worked on at once: all rows of all heads of some masks, or all rows of
    some heads of one mask, or some rows of one head."""

    masks: slice
    heads: slice
    rows: slice
    gradient: Tensor  # [masks, heads, rows, k]
    is_kept: bool  # until the next forward


class AttentionGradient:
    """``q -> sum_h,i factor * relu(G)`` and its transpose, for one image and at most ``capacity``
    masks.

    Args:
        values: ``[heads, k, dh]`` value vectors of the k keys.
        queries: n, rows of G per mask.
        capacity: masks per call.
        factors: ``[heads, n, k]``, >= 0, the same for all masks; None: all 1.
        piece: elements of G worked on at once (they should stay in cache).
        keep: elements of G's sign pattern kept between forward and backward; the rest is computed
            again, so memory stays bounded for any image size.
    """

    def __init__(
        self,
        values: Tensor,
        queries: int,
        capacity: int,
        *,
        factors: Tensor | None = None,
        piece: int,
        keep: int,
    ) -> None:
        # Of all masks, or of each: see `together`.
        self._values = values.contiguous()[None]
        self._values_t = [values.transpose(1, 2).contiguous()]
        self._factors = None if factors is None else factors[None]
        self.heads, self.keys, self.head_dim = values.shape
        self.queries = queries
        self.piece = piece
        self.keep = max(keep, 0)
        self._scratch = values.new_empty(0)
        self._masks = 0
        self._allocate(capacity)

    @classmethod
    def together(
        cls, parts: Sequence[AttentionGradient], counts: Sequence[int]
    ) -> AttentionGradient:
        """Those of several images as one, for so many masks of each, in order.

        They have the same number of heads, queries and keys.
        """
        made = copy(parts[0])
        made._values = stacked([one._values for one in parts], counts)
        made._values_t = spread([one._values_t[0] for one in parts], counts)
        factors = [one._factors for one in parts if one._factors is not None]
        made._factors = stacked(factors, counts) if factors else None
        made._allocate(sum(counts))
        return made

    def _allocate(self, capacity: int) -> None:
        wanted = self.heads * capacity * self.queries * self.keys
        self._kept = self._values.new_empty(min(wanted, self.keep))
        self._q = self._values.new_empty(capacity, self.heads, self.queries, self.head_dim)

    def forward(self, q: Tensor) -> Tensor:
        """``q [m, n, heads * dh]`` to ``[m, k]``; keeps what ``backward`` needs."""
        self._masks = m = len(q)
        by_head = q.view(m, self.queries, self.heads, self.head_dim).transpose(1, 2)
        self._q[:m].copy_(by_head)
        total = q.new_zeros(m, self.keys)
        for piece in self._pieces():
            gradient = self._fill(piece).relu_()
            total[piece.masks] += self._weighted(piece).sum((1, 2))
            if piece.is_kept:
                gradient.sign_()
        return total

    def backward(self, dtotal: Tensor) -> Tensor:
        """``[m, k] -> dq [m, n, heads * dh]`` at the q of the last forward.

        If that forward had one mask, any m is allowed: one q, m different losses.
        """
        m = len(dtotal)
        if self._masks == 1 and m > 1:
            return torch.cat([self.backward(row[None]) for row in dtotal])
        dq = dtotal.new_empty(m, self.heads, self.queries, self.head_dim)
        for piece in self._pieces():
            if not piece.is_kept:
                self._fill(piece).gt_(0)
            own = part_of(self._values, piece.masks)[:, piece.heads]
            weighted = dtotal[piece.masks, None, :, None] * own
            part = dq[piece.masks, piece.heads, piece.rows]
            for one, signs, values in zip(part, self._weighted(piece), weighted, strict=True):
                torch.bmm(signs, values, out=one)
        return dq.transpose(1, 2).reshape(m, self.queries, -1)

    def _fill(self, piece: _Piece) -> Tensor:
        """Write G into a piece; returns its tensor."""
        q = self._q[piece.masks, piece.heads, piece.rows]
        values = for_each(self._values_t, self._masks)[piece.masks]
        for rows, gradient, own in zip(q, piece.gradient, values, strict=True):
            torch.bmm(rows, own[piece.heads], out=gradient)
        return piece.gradient

    def _weighted(self, piece: _Piece) -> Tensor:
        """A piece times its factors."""
        if self._factors is None:
            return piece.gradient
        return piece.gradient * part_of(self._factors, piece.masks)[:, piece.heads, piece.rows]

    def _pieces(self) -> Iterator[_Piece]:
        """All of G for the masks of the last forward. How a mask is cut doesn't depend on them."""
        of_head = self.queries * self.keys
        rows = self.queries if of_head <= self.piece else max(self.piece // self.keys, 1)
        heads = min(max(self.piece // of_head, 1), self.heads)
        masks = max(self.piece // (of_head * self.heads), 1)
        offset = 0
        for at in _spans(self._masks, masks):
            for head in _spans(self.heads, heads):
                for row in _spans(self.queries, rows):
                    shape = [part.stop - part.start for part in (at, head, row)]
                    size = shape[0] * shape[1] * shape[2] * self.keys
                    is_kept = offset + size <= self._kept.numel()
                    if is_kept:
                        buffer = self._kept[offset:]
                        offset += size
                    else:
                        offset = self._kept.numel()  # keep the first pieces: same ones every pass
                        if self._scratch.numel() < size:
                            self._scratch = self._kept.new_empty(size)
                        buffer = self._scratch
                    gradient = buffer[:size].view(*shape, self.keys)
                    yield _Piece(at, head, row, gradient, is_kept)


def _spans(total: int, step: int) -> Iterator[slice]:
    for first in range(0, total, step):
        yield slice(first, min(first + step, total))
