"""Decode a dataset's pictures and label maps."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from eval.errors import DataError
from regionlm.images import as_image


def read_photo(path: str | Path, size: tuple[int, int]) -> Image.Image:
    """Read a photo as RGB, the way up its annotations were made.

    size: (W, H) of the annotations, pixels. Datasets were annotated on the stored pixels, so the
    EXIF orientation is ignored, unless turning by it is what gives the annotations' proportions.

    Raises DataError: missing, damaged, not a picture.
    """
    stored = _decode(path)
    turned = _turned(stored)
    photo = turned if _mismatch(turned, size) < _mismatch(stored, size) else stored
    try:
        return as_image(photo)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def read_label_map(path: str | Path) -> np.ndarray:
    """Read the numbers of a label map, int64 [H, W]: palette indices or grey values, never colours.

    Raises DataError: missing, damaged, a colour picture.
    """
    picture = _decode(path)
    if picture.mode not in ("P", "L", "I", "I;16"):
        raise DataError(
            f"{path}: expected a label map of palette indices or grey values, found mode "
            f"{picture.mode}: its colours no longer say the class, unpack the original file again"
        )
    return np.asarray(picture).astype(np.int64)


def read_binary_mask(path: str | Path) -> np.ndarray:
    """Read a black-and-white mask, 1-bit, 0/1 or 0/255, as bool [H, W].

    Raises DataError: missing, damaged.
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
        raise DataError(f"{path} is gone: it was there when the dataset was opened") from error
    except Exception as error:  # Pillow's decoders raise a dozen types on damaged files
        reason = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{path} cannot be decoded ({reason}): fetch it again") from error


def _turned(picture: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(picture)
    except Exception:  # unreadable EXIF says nothing about orientation
        return picture


def _mismatch(picture: Image.Image, size: tuple[int, int]) -> float:
    """How far the proportions are from those of `size`; 0: they agree."""
    return abs(math.log(picture.width * size[1] / (picture.height * size[0])))
