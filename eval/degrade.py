"""Worse masks than the annotated ones: Table 4. The paper names no kernel; 5 x 5, once, here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

KERNEL = np.ones((5, 5), bool)

Degradation = Callable[[np.ndarray], np.ndarray]
"""Masks bool ``[M, H, W]`` to as many others, none empty."""


def exact(masks: np.ndarray) -> np.ndarray:
    """As they are."""
    return masks


def eroded(masks: np.ndarray) -> np.ndarray:
    """Without their outermost two pixels; a mask that nothing would be left of stays as it is."""
    thinner = np.stack([ndimage.binary_erosion(mask, KERNEL, border_value=1) for mask in masks])
    left: np.ndarray = np.any(thinner, axis=(1, 2), keepdims=True)
    return np.where(left, thinner, masks)


def dilated(masks: np.ndarray) -> np.ndarray:
    """With two pixels more all around."""
    return np.stack([ndimage.binary_dilation(mask, KERNEL) for mask in masks])


def boxed(masks: np.ndarray) -> np.ndarray:
    """Their bounding boxes, filled."""
    rows: np.ndarray = np.any(masks, axis=2)
    columns: np.ndarray = np.any(masks, axis=1)
    return _span(rows)[:, :, None] & _span(columns)[:, None, :]


def _span(marks: np.ndarray) -> np.ndarray:
    """Everything from the first to the last mark of each row of bool ``[M, N]``."""
    begun = np.logical_or.accumulate(marks, axis=1)
    to_come = np.logical_or.accumulate(marks[:, ::-1], axis=1)[:, ::-1]
    return begun & to_come


DEGRADATIONS: dict[str, Degradation] = {
    "exact": exact,
    "erosion": eroded,
    "dilation": dilated,
    "box": boxed,
}
