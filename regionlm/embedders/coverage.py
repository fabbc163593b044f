"""How much of each patch a mask covers; all masks are brought to the patch grid in this way."""

from __future__ import annotations

import torch
from torch import Tensor

from regionlm.inputs.placement import Placement


def mask_coverage(masks: Tensor, grid: tuple[int, int], placed: Placement | None = None) -> Tensor:
    """Exact area averages ``[M, gh * gw]``, float32 in [0, 1], of bool masks ``[M, H, W]``.

    The share of each patch that the mask covers, also where a patch ends within a pixel. A mask
    with at least one pixel covers a part of some patch, so a weighted mean always exists; with a
    threshold, or with the bilinear samples of the published codes, a small mask can vanish.

    ``placed``: where the masks' image lies in the input that the grid divides; None: it fills it.
    Padding is not covered.
    """
    axes = zip(masks.shape[1:], grid, _parts(grid, placed), strict=True)
    rows, columns = (_shares(*axis) for axis in axes)
    rows, columns = rows.to(masks.device), columns.to(masks.device)
    shares = [rows @ mask.float() @ columns.T for mask in masks]  # one at a time: image-sized
    return torch.stack(shares).flatten(1).clamp(0, 1)


def _parts(
    grid: tuple[int, int], placed: Placement | None
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Where the image begins and how long it is, along each axis, in cells of the grid."""
    if placed is None:
        return (0, grid[0]), (0, grid[1])
    rows, columns = (
        (start * cells / side, (stop - start) * cells / side)
        for (start, stop), cells, side in zip(placed.spans, grid, placed.size, strict=True)
    )
    return rows, columns


def _shares(pixels: int, cells: int, part: tuple[float, float]) -> Tensor:
    """``[cells, pixels]``: how much of each cell's length lies in each pixel of an image."""
    start, length = part
    edges = (torch.arange(cells + 1, dtype=torch.float64) - start) * (pixels / length)
    left = torch.arange(pixels, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], left + 1) - torch.maximum(edges[:-1, None], left)
    return (overlap.clamp(min=0) * (length / pixels)).float()
