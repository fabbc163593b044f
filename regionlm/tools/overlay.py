"""Regions drawn over an image, each in its colour and with its number."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from regionlm.viz import outline

_LONGEST_SIDE = 1024
_TINT = 0.35
_FONT_SIZE = 18
# Okabe and Ito's colours, which colour-blind people tell apart, without black.
_COLOURS = [
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66),
    (0, 114, 178), (213, 94, 0), (204, 121, 167),
]  # fmt: skip


def draw_regions(image: Image.Image, masks: Sequence[np.ndarray]) -> Image.Image:
    """Tint and outline regions, and write their numbers, 1 for the first, at their middle.

    image: RGB. masks: bool [H, W] of the image's size, none empty. Returns RGB, its longest side at
    most 1024 pixels.
    """
    scale = min(1.0, _LONGEST_SIDE / max(image.size))
    size = (max(1, round(image.width * scale)), max(1, round(image.height * scale)))
    pixels = np.asarray(image.resize(size, Image.Resampling.LANCZOS), dtype=np.float32).copy()
    small = [_shrunk(mask, size) for mask in masks]
    colours = [np.array(_COLOURS[i % len(_COLOURS)], np.float32) for i in range(len(small))]
    for mask, colour in zip(small, colours, strict=True):
        pixels[mask] = (1 - _TINT) * pixels[mask] + _TINT * colour
    for mask, colour in zip(small, colours, strict=True):
        line, halo = outline(mask)
        pixels[halo] = 0
        pixels[line] = colour
    drawn = Image.fromarray(pixels.round().astype(np.uint8))
    pen, font = ImageDraw.Draw(drawn), ImageFont.load_default(_FONT_SIZE)
    for number, mask in enumerate(small, 1):
        pen.text(
            _middle(mask),
            str(number),
            fill="white",
            font=font,
            anchor="mm",
            stroke_width=2,
            stroke_fill="black",
        )
    return drawn


def _shrunk(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """A mask of another size, not empty either."""
    values = Image.fromarray(mask.astype(np.uint8) * 255).resize(size, Image.Resampling.BOX)
    covered = np.asarray(values)
    return covered >= min(128, int(covered.max()))


def _middle(mask: np.ndarray) -> tuple[int, int]:
    """(x, y) of a pixel of a mask near its middle; of a bow, one that is in it."""
    rows, columns = np.nonzero(mask)
    distance = (rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2
    nearest = int(distance.argmin())
    return int(columns[nearest]), int(rows[nearest])
