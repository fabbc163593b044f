"""Acc@k of retrieval, for Tables 1 to 4."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from eval.metrics.functional import accuracy_at, expected_accuracy_at
from eval.metrics.table_metric import TableMetric

TOP_K = (1, 5, 10)  # the paper's


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

    ranks: list[Tensor]

    def __init__(self, top_k: Sequence[int] = TOP_K, **options: Any) -> None:
        super().__init__(**options)
        self.top_k = tuple(top_k)
        self.add_column("ranks", torch.int64)

    def update(self, ranks: Tensor) -> None:
        """Add queries by the ranks of their targets, int64 ``[Q]``; 0 is first."""
        self.append("ranks", ranks)

    def compute(self) -> dict[str, Tensor]:
        """Return each ``acc@k`` in [0, 1], float64 scalars; NaN of no query."""
        ranks = self.column("ranks")
        return self.scalars({f"acc@{k}": accuracy_at(ranks, k) for k in self.top_k})


class ExpectedAccuracy(TableMetric):
    """The average ``RetrievalAccuracy`` if ties were broken at random.

    If the accuracy is far from it, it says more about the order of the candidates than about the
    method.

    Args:
        top_k: the values of k.

    >>> metric = ExpectedAccuracy((1, 5))
    >>> metric.update(above=torch.tensor([0, 0, 4]), tied=torch.tensor([1, 4, 2]))
    >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
    {'expected_acc@1': 0.417, 'expected_acc@5': 0.833}
    """

    above: list[Tensor]
    tied: list[Tensor]

    def __init__(self, top_k: Sequence[int] = TOP_K, **options: Any) -> None:
        super().__init__(**options)
        self.top_k = tuple(top_k)
        self.add_column("above", torch.int64)
        self.add_column("tied", torch.int64)

    def update(self, above: Tensor, tied: Tensor) -> None:
        """Add queries: int64 ``[Q]`` each, as ``tie_counts`` returns them."""
        self.append("above", above)
        self.append("tied", tied)

    def compute(self) -> dict[str, Tensor]:
        """Return each ``expected_acc@k`` in [0, 1], float64 scalars; NaN of no query."""
        above, tied = self.column("above"), self.column("tied")
        return self.scalars(
            {f"expected_acc@{k}": expected_accuracy_at(above, tied, k) for k in self.top_k}
        )
