"""mIoU and oIoU of the mask that an expression selects: Table 1."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from eval.metrics.base import TableMetric
from eval.metrics.functional import exact_mean


class SelectionIoU(TableMetric):
    """IoU of chosen with target masks: mean over queries, and of all pixels together.

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
        self.add_state("intersections", [], "cat")
        self.add_state("unions", [], "cat")

    def update(self, intersections: Tensor, unions: Tensor) -> None:
        """Pixels, int64 ``[Q]`` each, of the chosen mask and the target's."""
        self.intersections.append(intersections)
        self.unions.append(unions)

    def compute(self) -> dict[str, Tensor]:
        """``miou`` and ``oiou`` in [0, 1], float64 scalars; NaN before any query."""
        if len(self.unions) == 0:
            nothing = torch.tensor(torch.nan, dtype=torch.float64)
            return {"miou": nothing, "oiou": nothing}
        both, either = dim_zero_cat(self.intersections), dim_zero_cat(self.unions)
        # Rounded once, so that the order in which processes hand in their queries can't show.
        mean = exact_mean(both.double() / either.clamp_min(1))
        whole = both.sum().double() / either.sum().clamp_min(1)
        return {"miou": torch.tensor(mean, dtype=torch.float64, device=whole.device), "oiou": whole}
