"""How much of each patch a mask covers; all masks are brought to the patch grid in this way."""

from __future__ import annotations

import torch
from torch import Tensor


def mask_coverage(masks: Tensor, grid: tuple[int, int]) -> Tensor:
    """Exact area averages ``[M, gh * gw]``, float32 in [0, 1], of bool masks ``[M, H, W]``.

    The share of each patch that the mask covers, also where a patch ends within a pixel. A mask
    with at least one pixel covers a part of some patch, so a weighted mean always exists; with a
    threshold, or with the bilinear samples of the published codes, a small mask can vanish.
    """
    rows, columns = (_shares(n, cells) for n, cells in zip(masks.shape[1:], grid, strict=True))
    rows, columns = rows.to(masks.device), columns.to(masks.device)
    shares = [rows @ mask.float() @ columns.T for mask in masks]  # one at a time: image-sized
    return torch.stack(shares).flatten(1).clamp(0, 1)


def _shares(pixels: int, cells: int) -> Tensor:
    """``[cells, pixels]``, rows of sum 1: how much of each cell's length lies in each pixel."""
    edges = torch.arange(cells + 1, dtype=torch.float64) * (pixels / cells)
    left = torch.arange(pixels, dtype=torch.float64)
    overlap = torch.minimum(edges[1:, None], left + 1) - torch.maximum(edges[:-1, None], left)
    return (overlap.clamp(min=0) * (cells / pixels)).float()
