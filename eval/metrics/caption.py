"""Accuracy of localized captioning, for Table 6."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eval.metrics.functional import macro_accuracy, micro_accuracy
from eval.metrics.table_metric import TableMetric


class CaptionAccuracy(TableMetric):
    """Share of captions that are nearest to an expression of their own region.

    ``micro`` is over regions (the paper's measure, as far as its figures tell), ``macro`` the mean
    of the images' shares. ``*_multi`` leave out images with nothing to choose between, where every
    caption is right.

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
            self.add_column(name, torch.int64)

    def update(self, correct: Tensor, expressions: int) -> None:
        """Add an image.

        Args:
            correct: bool ``[M]``, whether the caption of each of its regions is right.
            expressions: number of different expressions to choose from; if regions have several
                each, number of different sets of them.
        """
        self.append("right", correct.sum())
        self.append("regions", torch.tensor(len(correct)))
        self.append("expressions", torch.tensor(expressions))

    def compute(self) -> dict[str, Tensor]:
        """Return shares in [0, 1], float64 scalars; NaN where no image counts."""
        right, regions = self.column("right"), self.column("regions")
        expressions = self.column("expressions")
        figures = {}
        for suffix, chosen in (("", expressions > 0), ("_multi", expressions > 1)):
            figures["micro" + suffix] = micro_accuracy(right[chosen], regions[chosen])
            figures["macro" + suffix] = macro_accuracy(right[chosen], regions[chosen])
        return self.scalars(figures)
