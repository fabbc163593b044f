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

Line = tuple[float, float]
"""(pixels from one place of the output to the next, pixel of the picture at place 0)"""


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
    # Rounded up or down by chance: the mean over the other axis then undoes the rounding to whole
    # shades, which would put pixels a place or two wrong.
    chance = np.random.default_rng(0)
    ramps = np.full((height, width, 3), 255, dtype=np.uint8)
    ramps[..., 0] = _ramp(width) + chance.random((height, width), dtype=np.float32)
    ramps[..., 1] = _ramp(height)[:, None] + chance.random((height, width), dtype=np.float32)
    across, down, seen = process(Image.fromarray(ramps)).double().cpu().numpy()
    inside = seen > seen.max() / 10  # a place half padding, too; all of a thin picture is a shadow
    share = np.where(inside, seen / 255, 1.0)  # of the picture in what is padding, too
    across, down = across / share, down / share
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    if min(len(rows), len(columns)) < 8:  # too few to fit lines to; nothing is cut off so thin
        vertical, horizontal = _whole(rows, height), _whole(columns, width)
    else:
        vertical = _fit(down[:, _middle(columns)].mean(1), rows, height)
        horizontal = _fit(across[_middle(rows)].mean(0), columns, width)
    return (
        _interpolation(vertical, rows, (height, inside.shape[0])),
        _interpolation(horizontal, columns, (width, inside.shape[1])),
    )


def _ramp(count: int) -> np.ndarray:
    """Shades of pixels by their place, that of pixel centres in units of the whole, unrounded."""
    return ((np.arange(count) + 0.5) * (255 / count)).astype(np.float32)


def _middle(seen: np.ndarray) -> np.ndarray:
    """The half of an axis away from its ends, where resizing bends a ramp."""
    quarter = len(seen) // 4
    return seen[quarter : len(seen) - quarter]


def _fit(shades: np.ndarray, seen: np.ndarray, count: int) -> Line:
    """From the shades of a ramp of ``count`` pixels, along the axis of the output."""
    straight = _middle(seen)
    pitch, start = np.polyfit(straight, shades[straight] * (count / 255) - 0.5, 1)
    return pitch, start


def _whole(seen: np.ndarray, count: int) -> Line:
    """All ``count`` pixels lie on what is seen."""
    pitch = count / len(seen)
    return pitch, (pitch - 1) / 2 - seen[0] * pitch


def _interpolation(line: Line, seen: np.ndarray, shape: tuple[int, int]) -> Tensor:
    """The matrix of one axis, of a shape (pixels of the picture, places of the output)."""
    (pitch, start), (first, last), pixels = line, (seen[0], seen[-1]), np.arange(shape[0])
    middle = (first + last) / 2
    if pitch * len(seen) < 0.5:  # one pixel of the picture is all that is seen
        wanted = np.full(len(pixels), middle)
        is_seen = pixels == np.clip(np.rint(start + pitch * middle), 0, len(pixels) - 1)
    else:
        wanted = (pixels - start) / pitch
        slack = 1.0  # places: half of one, and what the fit may be wrong by
        is_seen = (wanted > first - slack) & (wanted < last + slack)
    wanted = np.clip(wanted, first, last)
    left = np.floor(wanted).astype(int)
    share = wanted - left
    found = np.zeros(shape)
    found[pixels, left] = 1 - share
    found[pixels, np.minimum(left + 1, last)] += share
    return torch.from_numpy(found * is_seen[:, None]).float()
