"""Acc@k of retrieval: Tables 1 to 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eval.metrics.base import TableMetric


class RetrievalAccuracy(TableMetric):
    """Share of queries whose target is among the k best candidates, for each k.

    A query with fewer than k candidates always hits, as in the paper's PhraseCut figures.

    Args:
        top_k: the values of k.

    >>> metric = RetrievalAccuracy((1, 5))
    >>> metric.update(torch.tensor([0, 3, 7, 0]))
    >>> {name: float(value) for name, value in metric.compute().items()}
    {'acc@1': 0.5, 'acc@5': 0.75}
    """

    hits: Tensor
    total: Tensor

    def __init__(self, top_k: Sequence[int] = (1, 5, 10), **options: Any) -> None:
        super().__init__(**options)
        self.top_k = tuple(top_k)
        self.add_state("hits", torch.zeros(len(self.top_k), dtype=torch.int64), "sum")
        self.add_state("total", torch.tensor(0), "sum")

    def update(self, ranks: Tensor) -> None:
        """Count queries by the ranks of their targets, int64 ``[Q]``, 0 first."""
        limits = torch.tensor(self.top_k, device=ranks.device)
        self.hits += (ranks[:, None] < limits).sum(0)
        self.total += len(ranks)

    def compute(self) -> dict[str, Tensor]:
        """``acc@k`` in [0, 1], float64 scalars; NaN before any query."""
        shares = self.hits.double() / self.total
        return {f"acc@{k}": share for k, share in zip(self.top_k, shares, strict=True)}
