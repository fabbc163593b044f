"""The base class of all metrics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from regionlm.extras import extra

with extra("eval"):
    from torchmetrics import Metric
    from torchmetrics.utilities import dim_zero_cat


class TableMetric(Metric):
    """A metric whose `compute` returns several figures by name, in [0, 1] unless noted."""

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._column_types: dict[str, torch.dtype] = {}

    def add_column(self, name: str, dtype: torch.dtype) -> None:
        """Add a state: a list of 1-d tensors of one type, joined over processes."""
        self.add_state(name, [], "cat")
        self._column_types[name] = dtype

    def append(self, name: str, entries: Tensor) -> None:
        """Append entries of any shape to a column."""
        getattr(self, name).append(entries.to(self.device, self._column_types[name]).reshape(-1))

    def column(self, name: str) -> Tensor:
        """Return all entries of a column, 1-d; after syncing, those of all processes."""
        # A synced state is a tensor instead of a list; an empty one has lost its type.
        entries = getattr(self, name)
        joined = dim_zero_cat(entries) if len(entries) else torch.zeros(0, device=self.device)
        return joined.to(self._column_types[name])

    def scalars(self, figures: Mapping[str, float]) -> dict[str, Tensor]:
        """Convert figures to float64 scalars on the metric's device, as `compute` returns them."""
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in figures.items()
        }

    def sync(self, *args: Any, **options: Any) -> None:
        """Join the states of all processes like ``Metric.sync``; some may have no entries."""
        for name in self._column_types:
            # Gathering fails, or garbles numbers, if one process sends another type.
            if isinstance(getattr(self, name), list) and not getattr(self, name):
                setattr(self, name, [self.column(name)])
        super().sync(*args, **options)

    def plot(self, val: dict[str, Tensor] | None = None, ax: Any = None) -> Any:
        """Plot figures, by default those of `compute`; returns matplotlib's `(figure, axes)`."""
        return self._plot(val, ax)
