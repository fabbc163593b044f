"""What the metrics share."""

from __future__ import annotations

from typing import Any

from torch import Tensor
from torchmetrics import Metric


class TableMetric(Metric):
    """A metric whose `compute` gives several figures by name, each in [0, 1]."""

    full_state_update = False
    higher_is_better = True
    is_differentiable = False
    plot_lower_bound = 0.0
    plot_upper_bound = 1.0

    def plot(self, val: dict[str, Tensor] | None = None, ax: Any = None) -> Any:
        """Draw the figures, `compute`'s by default, with matplotlib: `(figure, axes)`."""
        return self._plot(val, ax)
