"""CLIPScore: captions compared with images of their regions. Not in the paper."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from eval.metrics.functional import clip_scores, exact_mean, ref_clip_scores
from eval.metrics.table_metric import TableMetric


class ClipScore(TableMetric):
    """Mean CLIPScore and RefCLIPScore over captions.

    >>> metric = ClipScore()
    >>> metric.update(torch.tensor([0.3, -0.1]), torch.tensor([0.5, 0.9]))
    >>> {name: round(float(value), 3) for name, value in metric.compute().items()}
    {'clipscore': 0.375, 'refclipscore': 0.3}
    """

    plot_upper_bound = 2.5

    cosines: list[Tensor]
    reference_cosines: list[Tensor]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.add_column("cosines", torch.float64)
        self.add_column("reference_cosines", torch.float64)

    def update(self, cosines: Tensor, reference_cosines: Tensor) -> None:
        """Add captions by their cosines, ``[M]`` each, with the image and the nearest reference."""
        self.append("cosines", cosines)
        self.append("reference_cosines", reference_cosines)

    def compute(self) -> dict[str, Tensor]:
        """Return ``clipscore`` in [0, 2.5] and ``refclipscore`` in [0, 10/7]; NaN of no caption."""
        cosines, told = self.column("cosines"), self.column("reference_cosines")
        return self.scalars(
            {
                "clipscore": exact_mean(clip_scores(cosines)),
                "refclipscore": exact_mean(ref_clip_scores(cosines, told)),
            }
        )
