"""Matrix products whose rows don't depend on each other's company.

A row of ``a @ b`` has other last bits when ``a`` has another number of rows, because libraries
choose their kernel by the shape. Ten steps of AdamW make different vectors of that. So wherever
the rows belong to different masks, tokens or images, each is a product of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import TypeVar

import torch
from torch import Tensor

_T = TypeVar("_T")


def by_row(rows: Tensor, matrix: Tensor) -> Tensor:
    """``rows [m, K] @ matrix [K, N]``, each row as if it were alone: ``[m, N]``."""
    return each_by(rows, repeat(matrix))


def each_by(rows: Tensor, matrices: Iterable[Tensor]) -> Tensor:
    """As `by_row`, each row ``[K]`` with a matrix ``[K, N]`` of its own."""
    # In memory of its own: the order of a sum also depends on where a row begins.
    pairs = zip(rows, matrices, strict=False)
    return torch.stack([torch.mv(matrix.T, row.clone()) for row, matrix in pairs])


def for_each(own: Sequence[_T], count: int) -> Sequence[_T]:
    """What belongs to each of so many masks, given what belongs to all of them, or to each."""
    return own if len(own) == count else list(own) * count


def spread(own: Sequence[_T], counts: Sequence[int]) -> list[_T]:
    """What belongs to each mask, given what belongs to each image, and how many masks it has."""
    return [one for one, count in zip(own, counts, strict=True) for _ in range(count)]
