"""How a whole image is brought to a model's input: squashed, padded, or in its own shape.

Nothing heavy is imported here, so that options can be checked before torch is loaded.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import Literal

MAX_SIDE = 4096  # pixels; 256 x 256 patches of 16, already hours of work on a CPU

Resize = Literal["squash", "pad", "native"]
"""`squash` fills the input, whatever the image's shape. `pad` keeps the shape and fills the rest
with the mean colour. `native` keeps it by giving the input the image's shape, at about the same
number of patches."""


@dataclass(frozen=True)
class Placement:
    """Where an image lies in a model's input; in pixels of the input, always (height, width)."""

    size: tuple[int, int]
    """Of the input."""
    corner: tuple[int, int]
    """Top and left of the image in it; multiples of the patch."""
    extent: tuple[int, int]
    """Of the image in it."""

    @classmethod
    def whole(cls, size: tuple[int, int]) -> Placement:
        """Of an image that fills the input."""
        return cls(size, (0, 0), size)

    @property
    def fills(self) -> bool:
        """Whether the image fills the input."""
        return self.extent == self.size

    @property
    def spans(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """First row and row after the last; the same of columns."""
        (top, left), (height, width) = self.corner, self.extent
        return (top, top + height), (left, left + width)


def place(
    image: tuple[int, int], size: tuple[int, int], patch: tuple[int, int], resize: Resize
) -> Placement:
    """Where an image lies in the input that it is resized to.

    Args:
        image: its (width, height), as Pillow has it.
        size: (height, width) of the input, multiples of the patch; for `native`, of an input with
            as many pixels.
        patch: (height, width).
        resize: how. An image with the input's aspect ratio fills it under each.
    """
    if resize == "pad":
        return _padded(image, size, patch)
    return Placement.whole(size if resize == "squash" else _native(image, size, patch))


def _padded(image: tuple[int, int], size: tuple[int, int], patch: tuple[int, int]) -> Placement:
    """In the middle, but beginning with a patch, so that as few as possible hold both."""
    (width, height), (rows, columns) = image, size
    if height * columns >= width * rows:
        extent = rows, max(1, round(width * rows / height))
    else:
        extent = max(1, round(height * columns / width)), columns
    corner = [(s - e) // 2 // p * p for s, e, p in zip(size, extent, patch, strict=True)]
    return Placement(size, (corner[0], corner[1]), extent)


def _native(
    image: tuple[int, int], size: tuple[int, int], patch: tuple[int, int]
) -> tuple[int, int]:
    (width, height), area = image, size[0] * size[1]
    sides = sqrt(area * height / width), sqrt(area * width / height)
    patches = area // (patch[0] * patch[1])  # a thin image has no more of them in its one row
    rows, columns = (
        min(max(round(side / p), 1), patches, MAX_SIDE // p) * p
        for side, p in zip(sides, patch, strict=True)
    )
    return rows, columns
