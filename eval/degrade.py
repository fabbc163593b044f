"""Masks worse than the annotated ones, for Table 4.

The paper names no kernel for erosion and dilation. We apply a square of 5 x 5 pixels once, unless a
run sets another side.
"""

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
    """Changed masks, bool ``[M, H, W]``, none empty, and how many had to be replaced.

    replaced: number of masks that stand in for one that would have been empty.
    """

    masks: np.ndarray
    replaced: int


Degradation = Callable[[Image.Image, np.ndarray], Degraded]
"""Turns an image and its masks, bool ``[M, H, W]``, into as many other masks."""


def make_degradation(
    quality: str, sam: SamSource, device: torch.device, kernel: int = 5
) -> Degradation:
    """Return the degradation that the setting `masks` names, with its model loaded if it has one.

    Args:
        quality: value of the setting `masks`.
        sam: the model of box_sam.
        device: where that model runs.
        kernel: side in pixels of the square for erosion and dilation, odd.

    Raises:
        DataError: unknown name.
        ModelError: SAM can't be loaded.
    """
    if quality in SHAPES:
        change = SHAPES[quality]
        return lambda image, masks: _unless_empty(change(masks, kernel), masks)
    check_choice("masks", quality, [*SHAPES, "box_sam"], DataError)
    return redrawn(sam, device)


def redrawn(sam: SamSource, device: torch.device) -> Degradation:
    """Masks that SAM draws for the bounding boxes; the filled box where it draws no pixel."""
    from eval.sam import BoxSam  # transformers' models take seconds to import

    draw = BoxSam.load(sam.name, device, offline=sam.offline)

    def degrade(image: Image.Image, masks: np.ndarray) -> Degraded:
        boxes = [bounding_box(mask) for mask in torch.from_numpy(masks)]
        return _unless_empty(draw(image, boxes), boxed(masks))

    return degrade


def eroded(masks: np.ndarray, kernel: int) -> np.ndarray:
    """Keep the pixels around which a square of that side fits into the mask; maybe none."""
    return _filtered(masks, kernel, ndimage.minimum_filter1d, beyond=1)


def dilated(masks: np.ndarray, kernel: int) -> np.ndarray:
    """Add a square of that side around each pixel of the masks."""
    return _filtered(masks, kernel, ndimage.maximum_filter1d, beyond=0)


def _filtered(
    masks: np.ndarray, kernel: int, along: Callable[..., np.ndarray], beyond: int
) -> np.ndarray:
    """Filter along columns, then along rows.

    For a square this equals filtering in both directions at once, and time and memory hardly grow
    with its side. ``beyond``: the value of pixels outside the image.
    """
    found = masks.astype(np.uint8)
    for axis in (1, 2):
        reach = min(kernel, 2 * masks.shape[axis] + 1)  # which covers all, wherever its middle is
        found = along(found, reach, axis=axis, mode="constant", cval=beyond)
    return found.astype(bool)


def boxed(masks: np.ndarray) -> np.ndarray:
    """Return the filled bounding boxes of masks."""
    rows: np.ndarray = np.any(masks, axis=2)
    columns: np.ndarray = np.any(masks, axis=1)
    return _span(rows)[:, :, None] & _span(columns)[:, None, :]


def _span(marks: np.ndarray) -> np.ndarray:
    """Fill each row of bool ``[M, N]`` from its first to its last True."""
    begun = np.logical_or.accumulate(marks, axis=1)
    to_come = np.logical_or.accumulate(marks[:, ::-1], axis=1)[:, ::-1]
    return begun & to_come


def _unless_empty(masks: np.ndarray, others: np.ndarray) -> Degraded:
    """Take each mask of bool ``[M, H, W]``, or the one of ``others`` if it has no pixel."""
    left: np.ndarray = np.any(masks, axis=(1, 2), keepdims=True)
    return Degraded(np.where(left, masks, others), int((~left).sum()))


SHAPES: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "exact": lambda masks, kernel: masks,
    "erosion": eroded,
    "dilation": dilated,
    "box": lambda masks, kernel: boxed(masks),
}
"""Degradations that need nothing but the masks and the kernel, by name."""
