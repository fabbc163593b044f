"""Matrix products whose rows don't depend on each other's company.

A row of ``a @ b`` has other last bits when ``a`` has another number of rows, because libraries
choose their kernel by the shape. Ten steps of AdamW make different vectors of that. So wherever
the rows belong to different masks, tokens or images, each is a product of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")


def by_row(rows: Tensor, matrix: Tensor) -> Tensor:
    """``rows [m, K] @ matrix [K, N]``, each row as if it were alone: ``[m, N]``."""
    return each_by(rows, [matrix] * len(rows))


def each_by(rows: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """As `by_row`, each row ``[K]`` with a matrix ``[K, N]`` of its own."""
    # In memory of its own: the order of a sum also depends on where a row begins.
    pairs = zip(rows, matrices, strict=True)
    return torch.stack([torch.mv(matrix.T, row.clone()) for row, matrix in pairs])


# What belongs to masks has one entry where all of them share it, else one for each.


def for_each(own: Sequence[_T], count: int) -> Sequence[_T]:
    """What belongs to each of so many masks."""
    return own if len(own) == count else list(own) * count


def part_of(own: Tensor, which: slice) -> Tensor:
    """``[1 or m, ...]`` for the masks ``which``: what they share, or their own."""
    return own if len(own) == 1 else own[which]


def spread(own: Sequence[_T], counts: Sequence[int]) -> list[_T]:
    """What belongs to each mask, given what belongs to each image, and how many masks it has."""
    return [one for one, count in zip(own, counts, strict=True) for _ in range(count)]


def stacked(own: Sequence[Tensor], counts: Sequence[int]) -> Tensor:
    """As `spread`, of ``[1, ...]`` of each image: ``[m, ...]``."""
    return torch.cat(spread(own, counts))
