"""Weighted sum over heads and queries of relu(q . v) per key, never held for all masks at once.

``G_h[i, j] = q_h[i] . v_h[j]`` is the gradient of the score with respect to the attention of head
h, query i, key j. The backward pass needs only the sign of G, as zeros and ones.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor


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
        self.values = values.contiguous()
        self.values_t = values.transpose(1, 2).contiguous()
        self.heads, self.keys, self.head_dim = values.shape
        self.queries = queries
        self.factors = factors
        self.piece = piece
        wanted = self.heads * capacity * queries * self.keys
        self._kept = values.new_empty(min(wanted, max(keep, 0)))
        self._scratch = values.new_empty(0)
        self._rows = values.new_empty(self.heads, capacity * queries, self.head_dim)
        self._masks = 0

    def forward(self, q: Tensor) -> Tensor:
        """``q [m, n, heads * dh]`` to ``[m, k]``; keeps what ``backward`` needs."""
        m, n = q.shape[:2]
        self._masks = m
        by_head = q.view(m * n, self.heads, self.head_dim).transpose(0, 1)
        self._rows[:, : m * n].copy_(by_head)
        total = q.new_zeros(m, self.keys)
        for heads, rows, gradient, is_kept in self._pieces():
            torch.bmm(self._rows[heads, rows], self.values_t[heads], out=gradient)
            gradient.relu_()
            total += self._by_mask(gradient, heads, rows).sum((0, 2))
            if is_kept:
                gradient.sign_()
        return total

    def backward(self, dtotal: Tensor) -> Tensor:
        """``[m, k] -> dq [m, n, heads * dh]`` at the q of the last forward.

        If that forward had one mask, any m is allowed: one q, m different losses.
        """
        m, n = len(dtotal), self.queries
        if self._masks == 1 and m > 1:
            return torch.cat([self.backward(row[None]) for row in dtotal])
        dq = dtotal.new_empty(m, n, self.heads, self.head_dim)
        flat = dq.view(m * n, self.heads, self.head_dim).transpose(0, 1)
        for heads, rows, signs, is_kept in self._pieces():
            if not is_kept:
                torch.bmm(self._rows[heads, rows], self.values_t[heads], out=signs)
                signs.gt_(0)
            weighted = dtotal[None, :, :, None] * self.values[heads, None]  # [heads, m, k, dh]
            product = torch.matmul(self._by_mask(signs, heads, rows), weighted)
            flat[heads, rows] = product.view(len(signs), -1, self.head_dim)
        return dq.view(m, n, -1)

    def _by_mask(self, piece: Tensor, heads: slice, rows: slice) -> Tensor:
        """A piece as ``[heads, masks, rows, k]``, times its factors. ``rows`` are a part of one
        mask's, or all of all masks'."""
        by_mask = piece.view(len(piece), self._masks, -1, self.keys)
        if self.factors is None:
            return by_mask
        return by_mask * self.factors[heads, None, rows]

    def _pieces(self) -> Iterator[tuple[slice, slice, Tensor, bool]]:
        """Head range, row range, buffer ``[heads, rows, k]``, whether that outlives forward."""
        rows = self._masks * self.queries
        step = rows
        if self._masks == 1 and rows * self.keys > self.piece:
            step = max(self.piece // self.keys, 1)
        group = max(self.piece // (step * self.keys), 1)
        offset = 0
        for head in range(0, self.heads, group):
            heads = slice(head, min(head + group, self.heads))
            for row in range(0, rows, step):
                span = slice(row, min(row + step, rows))
                shape = (heads.stop - heads.start, span.stop - span.start, self.keys)
                size = shape[0] * shape[1] * shape[2]
                if offset + size <= self._kept.numel():
                    yield heads, span, self._kept[offset : offset + size].view(shape), True
                    offset += size
                    continue
                offset = self._kept.numel()  # keep the first pieces only: same ones every pass
                if self._scratch.numel() < size:
                    self._scratch = self._kept.new_empty(size)
                yield heads, span, self._scratch[:size].view(shape), False
