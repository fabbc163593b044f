"""Worse masks than the annotated ones: Table 4. The paper names no kernel; 5 x 5, once, here."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from scipy import ndimage

from eval.errors import DataError
from eval.settings import SamSource
from regionlm.embedders.pictures import bounding_box

KERNEL = np.ones((5, 5), bool)

Degradation = Callable[[Image.Image, np.ndarray], np.ndarray]
"""A picture and masks bool ``[M, H, W]`` of it to as many other masks, none empty."""


def make_degradation(quality: str, sam: SamSource, device: torch.device) -> Degradation:
    """What a setting of `masks` asks for; a model is loaded onto the device where that needs one.

    Raises:
        DataError: unknown name.
        ModelError: SAM can't be used.
    """
    if quality in SHAPES:
        change = SHAPES[quality]
        return lambda image, masks: change(masks)
    if quality != "box_sam":
        known = ", ".join([*SHAPES, "box_sam"])
        raise DataError(f"masks: expected one of {known}; found {quality!r}")
    return redrawn(sam, device)


def redrawn(sam: SamSource, device: torch.device) -> Degradation:
    """SAM's masks for the bounding boxes; where it draws no pixel, the filled box."""
    from eval.sam import BoxSam  # transformers' models take seconds to import

    draw = BoxSam.load(sam.name, device, offline=sam.offline)

    def degrade(image: Image.Image, masks: np.ndarray) -> np.ndarray:
        boxes = [bounding_box(mask) for mask in torch.from_numpy(masks)]
        return _unless_empty(draw(image, boxes), boxed(masks))

    return degrade


def exact(masks: np.ndarray) -> np.ndarray:
    """As they are."""
    return masks


def eroded(masks: np.ndarray) -> np.ndarray:
    """Without their outermost two pixels; a mask that nothing would be left of stays as it is."""
    thinner = np.stack([ndimage.binary_erosion(mask, KERNEL, border_value=1) for mask in masks])
    return _unless_empty(thinner, masks)


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


def _unless_empty(masks: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Each of bool ``[M, H, W]``, or of the others if it is without a pixel."""
    left: np.ndarray = np.any(masks, axis=(1, 2), keepdims=True)
    return np.where(left, masks, others)


SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exact": exact,
    "erosion": eroded,
    "dilation": dilated,
    "box": boxed,
}
"""Those that need the masks only."""
