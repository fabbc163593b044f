"""The part of a relevance map that belongs to its peak."""

from __future__ import annotations

import numpy as np

_MOST_CELLS = 128  # a side of the grid on which parts are told apart; maps have fewer patches


def part_with_peak(heatmap: np.ndarray, threshold: float) -> np.ndarray:
    """The connected part around the largest value, where values are at least `threshold` of it.

    heatmap: [H, W] in [0, 1], not all zeros. threshold: in (0, 1]. Returns bool [H, W].
    """
    above = heatmap >= threshold * heatmap.max()
    step = -(-max(heatmap.shape) // _MOST_CELLS)
    cells = _reduced(above, step)
    row, column = np.unravel_index(int(heatmap.argmax()), heatmap.shape)
    part: np.ndarray = np.zeros(cells.shape, bool)
    part[row // step, column // step] = True
    while True:
        grown = _grown(part) & cells
        if (grown == part).all():
            break
        part = grown
    height, width = heatmap.shape
    whole: np.ndarray = above & part.repeat(step, 0).repeat(step, 1)[:height, :width]
    return whole


def _reduced(mask: np.ndarray, step: int) -> np.ndarray:
    """Whether anything of a mask is in each of its squares of step x step pixels."""
    rows, columns = (-(-length // step) for length in mask.shape)
    padded = np.zeros((rows * step, columns * step), bool)
    padded[: mask.shape[0], : mask.shape[1]] = mask
    found: np.ndarray = np.any(padded.reshape(rows, step, columns, step), axis=(1, 3))
    return found


def _grown(mask: np.ndarray) -> np.ndarray:
    """A mask with the eight neighbours of its cells."""
    padded = np.pad(mask, 1)
    tall = padded[:-2] | padded[1:-1] | padded[2:]
    found: np.ndarray = tall[:, :-2] | tall[:, 1:-1] | tall[:, 2:]
    return found
