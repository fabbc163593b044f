"""Read the photos, label maps and mask files of datasets."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from prefix_models.errors import within
from regionlm.datasets.data_errors import DataError
from regionlm.inputs.images import as_image

# Sides of annotations are rounded: 2 % is a pixel or two of the smallest pictures.
_SAME_PROPORTIONS = math.log(1.02)


def read_photo(
    path: str | Path, size: tuple[int, int], *, any_proportions: bool = False
) -> Image.Image:
    """Read a photo as RGB, in the orientation in which it was annotated.

    size: (W, H) of the annotations in pixels. Datasets were annotated on the stored pixels, so the
    EXIF orientation is ignored, unless only the rotated photo has the annotations' proportions.
    any_proportions: accept a photo of other proportions than its annotations.

    Raises DataError: missing, damaged, not an image, or of other proportions.
    """
    stored = _decode(path)
    turned = _turned(stored)
    better = _mismatch(turned.size, size) < _mismatch(stored.size, size)
    photo = turned if better else stored
    if not any_proportions:
        check_proportions(path, photo.size, size)
    with within(path, DataError):
        return as_image(photo)


def check_proportions(path: str | Path, found: tuple[int, int], wanted: tuple[int, int]) -> None:
    """Raise DataError unless an image, (W, H), has about the proportions of the wanted (W, H)."""
    if _mismatch(found, wanted) > _SAME_PROPORTIONS:
        raise DataError(
            f"{path}: expected {wanted[0]} x {wanted[1]} pixels or the same proportions, found"
            f" {found[0]} x {found[1]}: another image, cut or squashed; fetch the original"
        )


def read_label_map(path: str | Path) -> np.ndarray:
    """Read a label map of palette indices or grey values as int64 [H, W].

    Raises DataError: missing, damaged, or a colour image.
    """
    picture = _decode(path)
    if picture.mode not in ("P", "L", "I", "I;16"):
        raise DataError(
            f"{path}: expected a label map of palette indices or grey values, found mode "
            f"{picture.mode}, whose colours do not tell classes: unpack the original file again"
        )
    return np.asarray(picture).astype(np.int64)


def read_binary_mask(path: str | Path) -> np.ndarray:
    """Read a black-and-white mask (1-bit, 0/1 or 0/255) as bool [H, W].

    Raises DataError: missing or damaged.
    """
    values = np.asarray(_decode(path).convert("L"))
    # Half of the brightest value: 0/1 and 0/255 are both in use, and some masks are smoothed.
    return values > values.max() // 2


def _decode(path: str | Path) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
            return picture
    except FileNotFoundError as error:
        raise DataError(f"{path}: no such file") from error
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be decoded ({reason}): fetch it again") from error


def _turned(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # unreadable EXIF says nothing about orientation
        return picture


def _mismatch(one: tuple[int, int], other: tuple[int, int]) -> float:
    """Return how far the proportions of two sizes differ; 0 if they agree."""
    return abs(math.log(one[0] * other[1] / (one[1] * other[0])))
