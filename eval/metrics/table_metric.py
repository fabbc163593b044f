"""What the metrics share."""

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
    """A metric whose `compute` gives several figures by name, each in [0, 1] unless it says so."""

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._column_types: dict[str, torch.dtype] = {}

    def add_column(self, name: str, dtype: torch.dtype) -> None:
        """Keep a list of 1-d tensors of a type, joined over processes."""
        self.add_state(name, [], "cat")
        self._column_types[name] = dtype

    def append(self, name: str, entries: Tensor) -> None:
        """Add entries, any shape, to a column."""
        getattr(self, name).append(entries.to(self.device, self._column_types[name]).reshape(-1))

    def column(self, name: str) -> Tensor:
        """All entries of a column, 1-d; after syncing those of all processes."""
        # A synced state is one tensor, no list; an empty one has lost its type on the way.
        entries = getattr(self, name)
        joined = dim_zero_cat(entries) if len(entries) else torch.zeros(0, device=self.device)
        return joined.to(self._column_types[name])

    def scalars(self, figures: Mapping[str, float]) -> dict[str, Tensor]:
        """Figures as `compute` gives them: float64 scalars on the metric's device."""
        return {
            name: torch.tensor(value, dtype=torch.float64, device=self.device)
            for name, value in figures.items()
        }

    def sync(self, *args: Any, **options: Any) -> None:
        """Join the processes' states, as ``Metric.sync``; a process may have counted nothing."""
        for name in self._column_types:
            # Gathering fails or garbles where one process sends numbers of another type.
            if isinstance(getattr(self, name), list) and not getattr(self, name):
                setattr(self, name, [self.column(name)])
        super().sync(*args, **options)

    def plot(self, val: dict[str, Tensor] | None = None, ax: Any = None) -> Any:
        """Draw the figures, `compute`'s by default, with matplotlib: `(figure, axes)`."""
        return self._plot(val, ax)
