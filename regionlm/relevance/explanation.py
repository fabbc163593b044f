"""A relevance map of an image: where it is largest, and how much of it is in a region."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
from torch import Tensor

from regionlm.relevance.resize import GridToMask

Found = TypeVar("Found")


@dataclass(frozen=True, eq=False)  # tensors can't be told equal by one word
class Explanation:
    """How relevant each pixel of an image is to a text, or to the embedding of a region.

    ``dice`` and ``iou`` [0, 1] say how well the map matches the region's mask; None for a text.
    """

    name: str
    relevance: Tensor = field(repr=False)
    """``[gh, gw]``: the raw map on the patch grid, on the backbone's device."""
    resize: GridToMask = field(repr=False)
    dice: float | None = None
    iou: float | None = None

    @cached_property
    def heatmap(self) -> np.ndarray:
        """Relevance of every image pixel, float32 ``[H, W]`` in [0, 1]; all zeros without contrast.

        Min-max scaled at the model's input size, as in the published code, then resized.
        """
        (heatmap,) = self.resize.heatmaps(self.relevance[None])
        found: np.ndarray = heatmap.float().cpu().numpy()
        return found

    @property
    def peak(self) -> tuple[int, int]:
        """(x, y) of the most relevant pixel, the first of several in reading order."""
        row, column = np.unravel_index(int(self.heatmap.argmax()), self.heatmap.shape)
        return int(column), int(row)

    def points_into(self, mask: np.ndarray) -> bool:
        """Whether the peak is in a mask, bool ``[H, W]``: a hit of the pointing game."""
        x, y = self.peak
        return bool(mask[y, x])

    def share_in(self, mask: np.ndarray) -> float:
        """Share [0, 1] of all relevance that is in a mask, bool ``[H, W]``; 0 if there is none."""
        total = float(self.heatmap.sum(dtype=np.float64))
        return float(self.heatmap[mask].sum(dtype=np.float64)) / total if total else 0.0

    def to_dict(self) -> dict[str, Any]:
        """What ``--json`` says of it: JSON values, by name."""
        found: dict[str, Any] = {"name": self.name, "peak": list(self.peak)}
        return found if self.dice is None else {**found, "dice": self.dice, "iou": self.iou}


def undrawn(found: Found) -> Found:
    """A copy of an answer, a dataclass, that has drawn no heatmap yet. One that is drawn of the
    copy, as large as the image, ends with it."""
    explanation = getattr(found, "explanation", None)
    changed = {} if explanation is None else {"explanation": replace(explanation)}
    return replace(found, **changed)  # type: ignore[type-var]
