"""Soft Dice between relevance maps and masks, computed on the patch grid, with its gradient.

``1 - (2 * sum(E * m) + 1) / (sum(E) + sum(m) + 1)`` (the published code's smoothing), E being the
map at mask resolution. Nothing of image size is touched per step: see ``relevance.resize``.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regionlm.relevance.resize import GridToMask, scale_to_unit

SMOOTH = 1.0
_PIXELS_AT_ONCE = 8_000_000  # of masks turned from bool to float at the same time


class GridDice:
    """Dice losses of M masks as a function of M maps on the grid.

    Args:
        resize: from the grid to the masks' resolution.
        masks: bool ``[M, H, W]``.
    """

    def __init__(self, resize: GridToMask, masks: Tensor) -> None:
        self.resize = resize
        like = resize.rows
        self.pixels = masks.shape[1] * masks.shape[2]
        at_once = max(1, _PIXELS_AT_ONCE // self.pixels)
        parts = [m.to(like.device, like.dtype) for m in masks.split(at_once)]
        self.inside = torch.cat([resize.gather(part) for part in parts])
        self.everywhere = resize.total_weights()
        self.area = masks.flatten(1).sum(1).to(like.device, like.dtype)

    def __call__(self, maps: Tensor, which: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Losses ``[m]`` and their gradients ``[m, gh, gw]`` for raw maps of the masks ``which``.

        ``maps [1, gh, gw]`` is compared with every mask of ``which``.
        """
        inside, area = self.inside[which], self.area[which]
        extremes = self.resize.extremes(maps)
        unit, factor = scale_to_unit(maps, extremes)
        overlap = (unit * inside).sum((1, 2))
        mass = (unit * self.everywhere).sum((1, 2))
        denominator = mass + area + SMOOTH
        dice = (2 * overlap + SMOOTH) / denominator
        # d loss / d overlap and d loss / d mass; both sums are of (R - low) / (high - low).
        to_overlap, to_mass = -2 / denominator, dice / denominator
        direct = to_overlap[:, None, None] * inside + to_mass[:, None, None] * self.everywhere
        scaled = to_overlap * overlap + to_mass * mass
        through_low = scaled - to_overlap * area - to_mass * self.pixels
        gradient = (
            direct
            + through_low[:, None, None] * extremes.low_weights
            - scaled[:, None, None] * extremes.high_weights
        )
        return 1 - dice, gradient * factor[:, None, None]
