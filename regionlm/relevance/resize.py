"""The two bilinear resizes between a patch grid and a mask, as small matrices.

The published code upsamples the map to the model's input size, min-max scales it there, and resizes
it again to the mask's size; both bilinear, corners unaligned. Bilinear resizing is separable and
linear and keeps constants, so sums over the final map are inner products on the patch grid, and the
extremes over the input-sized map are reached at the samples next to the patch centres. Of a padded
input the map is only where the image is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from regionlm.inputs.placement import Placement
from regionlm.relevance.products import by_row


def linear_matrix(source: int, target: int, like: Tensor) -> Tensor:
    """``[target, source]``: one axis of bilinear resizing, corners unaligned, no antialias."""
    eye = torch.eye(source, dtype=like.dtype, device=like.device)
    return F.interpolate(eye[None], size=target, mode="linear", align_corners=False)[0].T


@dataclass(frozen=True)
class _Samples:
    """s samples of one upsampled axis."""

    weights: Tensor  # [s, grid], of which each row has one or two neighbouring entries
    left: Tensor  # [s], the first of them
    right: Tensor  # [s], the other one
    share: Tensor  # [s], the right one's weight

    @classmethod
    def of(cls, weights: Tensor) -> _Samples:
        left = (weights > 0).byte().argmax(1)
        right = (left + 1).clamp(max=weights.shape[1] - 1)
        return cls(weights, left, right, weights.gather(1, right[:, None])[:, 0])

    def rows(self, maps: Tensor) -> Tensor:
        """``[m, grid, w] -> [m, s, w]``; a constant map keeps its value exactly."""
        return torch.lerp(maps[:, self.left], maps[:, self.right], self.share[:, None])

    def columns(self, maps: Tensor) -> Tensor:
        """``[m, h, grid] -> [m, h, s]``."""
        return torch.lerp(maps[:, :, self.left], maps[:, :, self.right], self.share)


class _Axis:
    """One axis of the input, of which the image takes the pixels ``span`` (first, after the last).

    The map's upsampling, ``rows [pixels, grid]``, is of the patches that hold a part of the image,
    as if there were no others: the columns of padding are zero.
    """

    def __init__(self, grid: int, patch: int, span: tuple[int, int], like: Tensor) -> None:
        first, last = span[0] // patch, -(-span[1] // patch)
        self.patch, self.patches = patch, last - first
        self.start, self.stop = (edge - first * patch for edge in span)
        upsampling = linear_matrix(self.patches, self.patches * patch, like)[self.start : self.stop]
        self.rows = F.pad(upsampling, (first, grid - last))

    def resized(self, target: int) -> Tensor:
        """``[target, grid]``: the upsampling, then resizing to so many pixels."""
        return linear_matrix(len(self.rows), target, self.rows) @ self.rows

    def extreme_samples(self) -> _Samples:
        """Those of the rows nearest to each patch centre, and where the image ends.

        Between neighbouring centres the upsampled map is bilinear, so on every rectangle of samples
        its extremes are at the corners, and outside the outermost centres it is constant.
        """
        centres = torch.arange(self.patches, device=self.rows.device) * self.patch
        near = torch.cat([centres + (self.patch - 1) // 2, centres + self.patch // 2])
        near = near[(near >= self.start) & (near < self.stop)]
        if self.stop - self.start < self.patches * self.patch:
            near = torch.cat([near, near.new_tensor([self.start, self.stop - 1])])
        return _Samples.of(self.rows[near.unique() - self.start])


@dataclass(frozen=True)
class GridToMask:
    """Maps on the grid ``[m, gh, gw]`` seen at the resolution of masks of ``size`` (H, W)."""

    rows: Tensor  # [H, gh]
    columns: Tensor  # [W, gw]
    extreme_rows: _Samples
    extreme_columns: _Samples

    @classmethod
    def of(
        cls,
        grid: tuple[int, int],
        patch: tuple[int, int],
        size: tuple[int, int],
        like: Tensor,
        placed: Placement | None = None,
    ) -> GridToMask:
        """Matrices in the dtype and on the device of ``like``.

        ``placed``: where the masks' image lies in the input; None: it fills it. Padding is cut off
        before anything is scaled or compared.
        """
        if placed is None:
            placed = Placement.whole((grid[0] * patch[0], grid[1] * patch[1]))
        rows, columns = (
            _Axis(g, p, span, like) for g, p, span in zip(grid, patch, placed.spans, strict=True)
        )
        return cls(
            rows.resized(size[0]),
            columns.resized(size[1]),
            rows.extreme_samples(),
            columns.extreme_samples(),
        )

    def seen_through(self, rows: Tensor, columns: Tensor) -> GridToMask:
        """The same maps at another resolution: matrices ``[H', H]`` and ``[W', W]`` resize them
        from that of the masks. What is scaled to [0, 1] is scaled by the same extremes."""
        rows, columns = rows.to(self.rows), columns.to(self.columns)
        return replace(self, rows=rows @ self.rows, columns=columns @ self.columns)

    @property
    def size(self) -> tuple[int, int]:
        """Mask height and width."""
        return len(self.rows), len(self.columns)

    def upsample(self, maps: Tensor) -> Tensor:
        """``[m, gh, gw] -> [m, H, W]``, without min-max."""
        return torch.stack([self.rows @ one @ self.columns.T for one in maps])

    def heatmaps(self, maps: Tensor) -> Tensor:
        """``[m, gh, gw] -> [m, H, W]`` in [0, 1], min-max scaled at the model's input size as in
        the published code; a constant map is all zeros."""
        unit, _ = scale_to_unit(maps, self.extremes(maps))
        return self.upsample(unit).clamp_(0, 1)

    def gather(self, masks: Tensor) -> Tensor:
        """Transposed upsampling ``[m, H, W] -> [m, gh, gw]``: cell weights in a masked sum."""
        return torch.stack([by_row(self.rows.T, one @ self.columns) for one in masks])

    def total_weights(self) -> Tensor:
        """``gather`` of an all-ones mask, ``[gh, gw]``."""
        return self.rows.sum(0)[:, None] * self.columns.sum(0)

    def extremes(self, maps: Tensor) -> Extremes:
        """Minimum and maximum of the input-sized map, and where they are."""
        samples = self.extreme_columns.columns(self.extreme_rows.rows(maps))
        low, low_at = samples.flatten(1).min(1)
        high, high_at = samples.flatten(1).max(1)
        low_weights, high_weights = self._weights(torch.stack([low_at, high_at]))
        return Extremes(low, high, low_weights, high_weights)

    def _weights(self, index: Tensor) -> Tensor:
        rows, columns = self.extreme_rows.weights, self.extreme_columns.weights
        row = torch.div(index, len(columns), rounding_mode="floor")
        return rows[row][..., None] * columns[index % len(columns)][..., None, :]


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
