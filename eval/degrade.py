"""Worse masks than the annotated ones: Table 4. The paper names no kernel; 5 x 5, once, unless a
run says otherwise."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from PIL import Image

from eval.run_settings import SamSource
from prefix_models.checks import check_choice
from regionlm.datasets.data_errors import DataError
from regionlm.embedders.pictures import bounding_box
from regionlm.extras import extra

with extra("eval"):
    from scipy import ndimage


class Degraded(NamedTuple):
    """masks: bool ``[M, H, W]``, none empty. replaced: how many of them stand in for one that would
    have been empty."""

    masks: np.ndarray
    replaced: int


Degradation = Callable[[Image.Image, np.ndarray], Degraded]
"""A picture and masks bool ``[M, H, W]`` of it to as many other masks."""


def make_degradation(
    quality: str, sam: SamSource, device: torch.device, kernel: int = 5
) -> Degradation:
    """What a setting of `masks` asks for; a model is loaded onto the device where that needs one.

    Args:
        quality: a value of `masks`.
        sam: for box_sam.
        device: for its model.
        kernel: side of the square for erosion and dilation, pixels; odd.

    Raises:
        DataError: unknown name.
        ModelError: SAM can't be used.
    """
    if quality in SHAPES:
        change = SHAPES[quality]
        return lambda image, masks: _unless_empty(change(masks, kernel), masks)
    check_choice("masks", quality, [*SHAPES, "box_sam"], DataError)
    return redrawn(sam, device)


def redrawn(sam: SamSource, device: torch.device) -> Degradation:
    """SAM's masks for the bounding boxes; where it draws no pixel, the filled box."""
    from eval.sam import BoxSam  # transformers' models take seconds to import

    draw = BoxSam.load(sam.name, device, offline=sam.offline)

    def degrade(image: Image.Image, masks: np.ndarray) -> Degraded:
        boxes = [bounding_box(mask) for mask in torch.from_numpy(masks)]
        return _unless_empty(draw(image, boxes), boxed(masks))

    return degrade


def eroded(masks: np.ndarray, kernel: int) -> np.ndarray:
    """Only the pixels around which a square of that side fits in; may be none."""
    return _filtered(masks, kernel, ndimage.minimum_filter1d, beyond=1)


def dilated(masks: np.ndarray, kernel: int) -> np.ndarray:
    """With a square of that side around each of their pixels."""
    return _filtered(masks, kernel, ndimage.maximum_filter1d, beyond=0)


def _filtered(
    masks: np.ndarray, kernel: int, along: Callable[..., np.ndarray], beyond: int
) -> np.ndarray:
    """Along columns, then rows: for a square the same as in both at once, in time and memory that
    hardly grow with it. ``beyond``: what lies outside of the picture."""
    found = masks.astype(np.uint8)
    for axis in (1, 2):
        reach = min(kernel, 2 * masks.shape[axis] + 1)  # which covers all, wherever its middle is
        found = along(found, reach, axis=axis, mode="constant", cval=beyond)
    return found.astype(bool)


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


def _unless_empty(masks: np.ndarray, others: np.ndarray) -> Degraded:
    """Each of bool ``[M, H, W]``, or of the others if it is without a pixel."""
    left: np.ndarray = np.any(masks, axis=(1, 2), keepdims=True)
    return Degraded(np.where(left, masks, others), int((~left).sum()))


SHAPES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "exact": lambda masks, kernel: masks,
    "erosion": eroded,
    "dilation": dilated,
    "box": lambda masks, kernel: boxed(masks),
}
"""Those that need the masks only, and the square's side of erosion and dilation."""
