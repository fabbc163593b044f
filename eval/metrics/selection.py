"""mIoU and oIoU of the mask that an expression selects, for Table 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eval.metrics.functional import mean_iou, overall_iou
from eval.metrics.table_metric import TableMetric


class SelectionIoU(TableMetric):
    """IoU of chosen and target masks: the mean over queries, and that of all pixels together.

    Two empty masks have IoU 0, as in the published evaluations.

    >>> metric = SelectionIoU()
    >>> metric.update(torch.tensor([10, 0]), torch.tensor([10, 30]))
    >>> {name: float(value) for name, value in metric.compute().items()}
    {'miou': 0.5, 'oiou': 0.25}
    """

    intersections: list[Tensor]
    unions: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_column("intersections", torch.int64)
        self.add_column("unions", torch.int64)

    def update(self, intersections: Tensor, unions: Tensor) -> None:
        """Add queries by pixel counts, int64 ``[Q]`` each, of the chosen and the target mask."""
        self.append("intersections", intersections)
        self.append("unions", unions)

    def compute(self) -> dict[str, Tensor]:
        """Return ``miou`` and ``oiou`` in [0, 1], float64 scalars; NaN of no query."""
        both, either = self.column("intersections"), self.column("unions")
        return self.scalars({"miou": mean_iou(both, either), "oiou": overall_iou(both, either)})
