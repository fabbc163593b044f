"""Grows a region from points by colour, with Felzenszwalb's and Huttenlocher's superpixels.

Chosen on the three examples, where it did better than superpixels of one size, SLIC merged by
colour, flood fill, and the relevance map of a disc around the click. What it is worth on scenes
that nobody looked at for that: benchmarks/clicks.py.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image

from regionlm.errors import InputError
from regionlm.extras import extra
from regionlm.inputs.points import Point

_SIDE = 320  # pixels of the image's longer side: more takes longer and finds smaller parts
_SCALES = (4000, 2800, 2000, 1400, 1000, 700, 500, 200, 50)  # from large superpixels to small ones
_LARGEST = 0.2  # share of the image that one click may mark, unless all scales give more
_LIKELY = 7  # so many scales are tried for a size; the rest only to tell points apart


class Superpixels:
    """Each point inside marks the superpixel around it; those with a point outside are left out."""

    method = "superpixel"
    note = "Grown by colour, without SAM: add points for what is missing, leave out what is not it."

    def __init__(self) -> None:
        self._last: tuple[Image.Image, _Scales] | None = None  # the image asked about last

    def mask(self, image: Image.Image, points: Sequence[Point]) -> np.ndarray:
        """The superpixels of the points inside, their holes filled but for points outside.

        Superpixels are as large as they can be without reaching over a fifth of the image or over
        a point outside. Arguments, result and errors as in `Segmenter`; MissingExtraError without
        scikit-image.
        """
        small = _shrunk(image)
        places = [_place(point, image.size, small.size) for point in points]
        outside = [place for place, point in zip(places, points, strict=True) if not point[2]]
        inside = [place for place, point in zip(places, points, strict=True) if point[2]]
        grown = self._scales(image, small)
        found = np.zeros((small.height, small.width), dtype=bool)
        for place in inside:
            found |= grown.around(place, outside)
        return _enlarged(found, image.size)

    def _scales(self, image: Image.Image, small: Image.Image) -> _Scales:
        last = self._last
        if last is None or last[0] is not image:
            self._last = last = (image, _Scales(np.asarray(small)))
        return last[1]


class _Scales:
    """The superpixels of one image, by scale."""

    def __init__(self, pixels: np.ndarray) -> None:
        self._pixels = pixels
        self._labels: dict[int, np.ndarray] = {}

    def around(self, place: tuple[int, int], outside: Sequence[tuple[int, int]]) -> np.ndarray:
        """The best superpixel at (row, column), bool [h, w]."""
        with extra("serve"):
            from scipy.ndimage import binary_fill_holes

        fitting: list[np.ndarray] = []
        for scale in _SCALES:
            if fitting and scale < _SCALES[_LIKELY - 1]:
                break
            labels = self._at(scale)
            kept_out = [labels[other] for other in outside]
            if labels[place] in kept_out:
                continue
            found = binary_fill_holes(labels == labels[place]) & ~np.isin(labels, kept_out)
            if found.mean() <= _LARGEST:
                return found
            fitting.append(found)
        if fitting:
            return fitting[-1]
        raise InputError(
            "points: one inside and one outside lie in the same colour; set them further apart"
        )

    def _at(self, scale: int) -> np.ndarray:
        with extra("serve"):
            from skimage.segmentation import felzenszwalb
        if scale not in self._labels:
            height, width = self._pixels.shape[:2]
            size = height * width
            self._labels[scale] = felzenszwalb(
                self._pixels,
                scale=scale * size / _SIDE**2,
                sigma=0.8,
                min_size=max(1, min(size // 500, scale // 5)),
            )
        return self._labels[scale]


def _shrunk(image: Image.Image) -> Image.Image:
    share = min(1.0, _SIDE / max(image.size))
    width, height = (max(1, round(side * share)) for side in image.size)
    return image.resize((width, height), Image.Resampling.BOX) if share < 1 else image


def _place(point: Point, size: tuple[int, int], small: tuple[int, int]) -> tuple[int, int]:
    """Row and column of a point in the smaller image."""
    column, row = (
        min(length - 1, int(value * length / whole))
        for value, whole, length in zip(point[:2], size, small, strict=True)
    )
    return row, column


def _enlarged(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """With smooth edges; the points' own pixels may be lost where a region is thin, never all."""
    if mask.shape == (size[1], size[0]):
        return mask
    grey = Image.fromarray(255 * mask.astype(np.uint8))
    smooth = np.asarray(grey.resize(size, Image.Resampling.BILINEAR)) > 127
    return smooth if smooth.any() else np.asarray(grey.resize(size, Image.Resampling.NEAREST)) > 0
