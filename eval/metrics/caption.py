"""Localized captioning: Table 6."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from eval.metrics.base import TableMetric
from eval.metrics.functional import exact_mean


class CaptionAccuracy(TableMetric):
    """Share of captions that are nearest to their own region's expression.

    ``micro`` is over regions (the paper's, as far as its figures tell), ``macro`` the mean of the
    images' shares; ``*_multi`` leave out images with a single expression, where every caption is
    right.

    >>> metric = CaptionAccuracy()
    >>> metric.update(torch.tensor([True, False]), expressions=2)
    >>> metric.update(torch.tensor([True]), expressions=1)
    >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
    {'micro': 0.667, 'macro': 0.75, 'micro_multi': 0.5, 'macro_multi': 0.5}
    """

    right: list[Tensor]
    regions: list[Tensor]
    expressions: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        for name in ("right", "regions", "expressions"):
            self.add_state(name, [], "cat")

    def update(self, correct: Tensor, expressions: int) -> None:
        """Count one image.

        Args:
            correct: bool ``[M]``, one for each of its regions.
            expressions: how many different expressions there were to choose from.
        """
        counts = (correct.sum(), len(correct), expressions)
        for state, count in zip((self.right, self.regions, self.expressions), counts, strict=True):
            state.append(torch.as_tensor(count, device=self.device).reshape(1))

    def compute(self) -> dict[str, Tensor]:
        """Shares in [0, 1], float64 scalars; NaN where no image counts."""
        if len(self.right) == 0:
            right = regions = expressions = torch.zeros(0, dtype=torch.int64, device=self.device)
        else:
            right, regions = dim_zero_cat(self.right), dim_zero_cat(self.regions)
            expressions = dim_zero_cat(self.expressions)
        result: dict[str, Tensor] = {}
        for suffix, chosen in (("", expressions > 0), ("_multi", expressions > 1)):
            of, out_of = right[chosen], regions[chosen]
            result["micro" + suffix] = of.sum().double() / out_of.sum()
            mean = exact_mean(of.double() / out_of)
            result["macro" + suffix] = torch.tensor(mean, dtype=torch.float64, device=self.device)
        return result
