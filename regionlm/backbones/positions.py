"""Positional embeddings for other patch grids than the model's."""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Interpolation = Literal["bicubic", "bilinear"]


def resample_positions(
    positions: Tensor,
    native_grid: tuple[int, int],
    grid: tuple[int, int],
    interpolation: Interpolation = "bicubic",
) -> Tensor:
    """Positional embedding ``[p + gh * gw, D]`` for another patch grid; the first p rows, of tokens
    before the patches, are kept.

    Antialiased, without aligned corners; bicubic as in open_clip's loader and in the published
    MaskInversion code, bilinear in models that were trained so. For an equal grid the result is
    ``positions`` itself. The input is never changed.
    """
    if grid == native_grid:
        return positions
    patches = native_grid[0] * native_grid[1]
    before, patch_rows = positions[:-patches], positions[-patches:]
    image = patch_rows.T.reshape(1, -1, *native_grid)
    # Not every device resizes in half precision.
    wide = torch.promote_types(image.dtype, torch.float32)
    resized = F.interpolate(
        image.to(wide), size=grid, mode=interpolation, antialias=True, align_corners=False
    )
    return torch.cat([before, resized.flatten(2)[0].T.to(positions.dtype)])
