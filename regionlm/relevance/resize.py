"""The two bilinear resizes between a patch grid and a mask, as small matrices.

The published code upsamples the map to the model's input size, min-max scales it there, and resizes
it again to the mask's size; both bilinear, corners unaligned. Bilinear resizing is separable and
linear and keeps constants, so sums over the final map are inner products on the patch grid, and the
extremes over the input-sized map are reached at the samples next to the patch centres.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


def linear_matrix(source: int, target: int, like: Tensor) -> Tensor:
    """``[target, source]``: one axis of bilinear resizing, corners unaligned, no antialias."""
    eye = torch.eye(source, dtype=like.dtype, device=like.device)
    return F.interpolate(eye[None], size=target, mode="linear", align_corners=False)[0].T


def _extreme_samples(grid: int, patch: int, like: Tensor) -> Tensor:
    """``[s, grid]``: the rows of the upsampling to ``grid * patch`` nearest to each patch centre.

    Between neighbouring centres the upsampled map is bilinear, so on every rectangle of samples its
    extremes are at the corners, and outside the outermost centres it is constant.
    """
    centres = torch.arange(grid, device=like.device) * patch
    near = torch.cat([centres + (patch - 1) // 2, centres + patch // 2]).unique()
    return linear_matrix(grid, grid * patch, like)[near]


@dataclass(frozen=True)
class GridToMask:
    """Maps on the grid ``[m, gh, gw]`` seen at the resolution of masks of ``size`` (H, W)."""

    rows: Tensor  # [H, gh]
    columns: Tensor  # [W, gw]
    extreme_rows: Tensor  # [s, gh]
    extreme_columns: Tensor  # [s, gw]

    @classmethod
    def of(
        cls, grid: tuple[int, int], patch: tuple[int, int], size: tuple[int, int], like: Tensor
    ) -> GridToMask:
        """Matrices in the dtype and on the device of ``like``."""
        axes = [
            linear_matrix(g * p, s, like) @ linear_matrix(g, g * p, like)
            for g, p, s in zip(grid, patch, size, strict=True)
        ]
        extremes = [_extreme_samples(g, p, like) for g, p in zip(grid, patch, strict=True)]
        return cls(axes[0], axes[1], extremes[0], extremes[1])

    @property
    def size(self) -> tuple[int, int]:
        """Mask height and width."""
        return len(self.rows), len(self.columns)

    def upsample(self, maps: Tensor) -> Tensor:
        """``[m, gh, gw] -> [m, H, W]``, without min-max."""
        return self.rows @ maps @ self.columns.T

    def heatmaps(self, maps: Tensor) -> Tensor:
        """``[m, gh, gw] -> [m, H, W]`` in [0, 1], min-max scaled at the model's input size as in
        the published code; a constant map is all zeros."""
        unit, _ = scale_to_unit(maps, self.extremes(maps))
        return self.upsample(unit).clamp_(0, 1)

    def gather(self, masks: Tensor) -> Tensor:
        """Transposed upsampling ``[m, H, W] -> [m, gh, gw]``: cell weights in a masked sum."""
        return self.rows.T @ masks @ self.columns

    def total_weights(self) -> Tensor:
        """``gather`` of an all-ones mask, ``[gh, gw]``."""
        return self.rows.sum(0)[:, None] * self.columns.sum(0)

    def extremes(self, maps: Tensor) -> Extremes:
        """Minimum and maximum of the input-sized map, and where they are."""
        samples = self.extreme_rows @ maps @ self.extreme_columns.T
        low, low_at = samples.flatten(1).min(1)
        high, high_at = samples.flatten(1).max(1)
        return Extremes(low, high, self._weights(low_at), self._weights(high_at))

    def _weights(self, index: Tensor) -> Tensor:
        width = len(self.extreme_columns)
        row = torch.div(index, width, rounding_mode="floor")
        return self.extreme_rows[row][:, :, None] * self.extreme_columns[index % width][:, None, :]


@dataclass(frozen=True)
class Extremes:
    """Per map: values ``[m]`` and the grid weights ``[m, gh, gw]`` that make them."""

    low: Tensor
    high: Tensor
    low_weights: Tensor
    high_weights: Tensor


def scale_to_unit(maps: Tensor, extremes: Extremes) -> tuple[Tensor, Tensor]:
    """Min-max scaling with the extremes of the input-sized map.

    Returns:
        The scaled maps ``[m, gh, gw]`` and ``1 / (max - min)`` ``[m]``. A constant map (max == min)
        has no contrast to scale: it becomes all zeros, with factor 0, so its gradient is zero too.
    """
    span = extremes.high - extremes.low
    flat = span <= 0
    factor = torch.where(flat, torch.zeros_like(span), 1 / torch.where(flat, 1.0, span))
    return (maps - extremes.low[:, None, None]) * factor[:, None, None], factor
