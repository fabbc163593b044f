"""Input sizes and patch grids, always as (height, width)."""

from __future__ import annotations

from prefix_models.checks import check_value, is_integer
from regionlm.errors import InputError
from regionlm.inputs.placement import MAX_SIDE


def resolve_size(size: int | tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    """Input pixels ``S`` or ``(H, W)`` as ``(H, W)``; InputError if the model can't take them."""
    found = check_value("size", size, int | tuple[int, int], InputError)
    height, width = (found, found) if is_integer(found) else found
    grid_of((height, width), patch_size)
    return height, width


def grid_of(size: tuple[int, int], patch_size: tuple[int, int]) -> tuple[int, int]:
    """Patches per column and row of ``size`` pixels; InputError unless the patch divides it."""
    for side, patch in zip(size, patch_size, strict=True):
        if side < patch or side % patch or side > MAX_SIDE:
            near = min(max(round(side / patch), 1), MAX_SIDE // patch) * patch
            raise InputError(
                f"size: expected multiples of the patch ({patch} pixels) up to {MAX_SIDE}, found"
                f" {size[0]} x {size[1]}; the nearest for {side} is {near}"
            )
    return size[0] // patch_size[0], size[1] // patch_size[1]


def nearest_size(side: int, patch_size: tuple[int, int]) -> tuple[int, int]:
    """The input size closest to ``side`` x ``side`` pixels that the patch divides."""
    height, width = (max(round(side / patch), 1) * patch for patch in patch_size)
    return height, width
