"""Soft Dice between relevance maps and masks, computed on the patch grid, with its gradient.

``1 - (2 * sum(E * m) + 1) / (sum(E) + sum(m) + 1)`` (the published code's smoothing), E being the
map at mask resolution. Nothing of image size is touched per step: see ``relevance.resize``.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from regionlm.relevance.products import part_of, stacked
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
        pixels = masks.shape[1] * masks.shape[2]
        at_once = max(1, _PIXELS_AT_ONCE // pixels)
        self.pixels = like.new_tensor([pixels])
        parts = [m.to(like.device, like.dtype) for m in masks.split(at_once)]
        self.inside = torch.cat([resize.gather(part) for part in parts])
        self.everywhere = resize.total_weights()[None]  # of all masks, or of each: see `together`
        self.area = masks.flatten(1).sum(1).to(like.device, like.dtype)

    @classmethod
    def together(cls, parts: Sequence[GridDice]) -> GridDice:
        """The losses of the masks of several images, whose grids and places in the model's input
        are the same, as one."""
        if len(parts) == 1:
            return parts[0]
        made = copy(parts[0])
        counts = [len(one.area) for one in parts]
        made.inside = torch.cat([one.inside for one in parts])
        made.area = torch.cat([one.area for one in parts])
        made.everywhere = stacked([one.everywhere for one in parts], counts)
        made.pixels = stacked([one.pixels for one in parts], counts)
        return made

    def __call__(self, maps: Tensor, which: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """Losses ``[m]`` and their gradients ``[m, gh, gw]`` for raw maps of the masks ``which``.

        ``maps [1, gh, gw]`` is compared with every mask of ``which``.
        """
        inside, area = self.inside[which], self.area[which]
        everywhere, pixels = part_of(self.everywhere, which), part_of(self.pixels, which)
        extremes = self.resize.extremes(maps)
        unit, factor = scale_to_unit(maps, extremes)
        overlap = (unit * inside).sum((1, 2))
        mass = (unit * everywhere).sum((1, 2))
        denominator = mass + area + SMOOTH
        dice = (2 * overlap + SMOOTH) / denominator
        # d loss / d overlap and d loss / d mass; both sums are of (R - low) / (high - low).
        to_overlap, to_mass = -2 / denominator, dice / denominator
        direct = to_overlap[:, None, None] * inside + to_mass[:, None, None] * everywhere
        scaled = to_overlap * overlap + to_mass * mass
        through_low = scaled - to_overlap * area - to_mass * pixels
        gradient = (
            direct
            + through_low[:, None, None] * extremes.low_weights
            - scaled[:, None, None] * extremes.high_weights
        )
        return 1 - dice, gradient * factor[:, None, None]
