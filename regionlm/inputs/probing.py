"""Where a model's own image processor puts the pixels of a picture, found by showing it ramps.

Processors squash, crop, shrink or pad, each by options of its own; but along each axis they all do
the same to a picture: stretch, shift, cut off.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Tensor

Process = Callable[[Image.Image], Tensor]
"""RGB picture -> ``[3, h, w]``, the shades 0 to 255 that the processor makes of it, padding 0."""


def input_to_picture(process: Process, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Matrices that bring what lies on a processor's output back to pixels of the picture.

    Args:
        process: of pictures of this size.
        size: (width, height) of the picture.

    Returns:
        ``[H, h]`` and ``[W, w]``, float32: linear interpolation along either axis; rows of pixels
        that the processor cuts off are zero.
    """
    width, height = size
    ramps = np.zeros((height, width, 3), dtype=np.uint8)
    ramps[..., 0] = _ramp(width)
    ramps[..., 1] = _ramp(height)[:, None]
    ramps[..., 2] = 255
    across, down, seen = process(Image.fromarray(ramps)).double().cpu().numpy()
    inside = seen > 127
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    middle_row, middle_column = rows[len(rows) // 2], columns[len(columns) // 2]
    return (
        _interpolation(down[:, middle_column], rows, height),
        _interpolation(across[middle_row], columns, width),
    )


def _ramp(count: int) -> np.ndarray:
    """Shades of pixels by their place, that of pixel centres in units of the whole."""
    return np.rint((np.arange(count) + 0.5) * (255 / count))


def _interpolation(shades: np.ndarray, seen: np.ndarray, count: int) -> Tensor:
    """``[count, len(shades)]`` for the ``count`` pixels of one axis of the picture.

    shades: of the ramp, along the axis of the output. seen: the places there that aren't padding.
    """
    first, last = seen[0], seen[-1]
    # At the ends, resizing has no neighbours to mix, so the ramp bends.
    quarter = len(seen) // 4
    straight = seen[quarter : len(seen) - quarter]
    places = shades[straight] * (count / 255) - 0.5
    pitch, start = np.polyfit(straight, places, 1) if len(straight) > 1 else (0.0, 0.0)
    middle = np.full(count, (first + last) / 2)  # where there is one pixel, or one place
    wanted = (np.arange(count) - start) / pitch if pitch > 0 else middle
    slack = 0.75  # of a place: half of it, and what shades of 8 bits leave open
    is_seen = (wanted > first - slack) & (wanted < last + slack)
    wanted = np.clip(wanted, first, last)
    left = np.floor(wanted).astype(int)
    share = wanted - left
    found = np.zeros((count, len(shades)))
    pixels = np.arange(count)
    found[pixels, left] = 1 - share
    found[pixels, np.minimum(left + 1, last)] += share
    return torch.from_numpy(found * is_seen[:, None]).float()
