"""`red_circle`: the whole image with a red ellipse around the region."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image, ImageDraw
from torch import Tensor

from regionlm.embedders.options import RedCircleOptions
from regionlm.embedders.pictures import PictureEmbedder, bounding_box

RED = (255, 0, 0)


class RedCircle(PictureEmbedder):
    """A red ellipse on the whole image, inscribed in the mask's bounding box (Shtedritski et al.
    2023, whose code is not published).

    The line's middle runs through the outermost pixels of the box. Two regions with
    the same box get the same embedding. Options: ``RedCircleOptions``.
    """

    options_type = RedCircleOptions
    options: RedCircleOptions

    def pictures(self, image: Image.Image, masks: Tensor) -> Iterator[Image.Image]:
        """See ``PictureEmbedder.pictures``."""
        short = min(image.size)
        line = min(max(1, round(self.options.thickness * short)), short)
        for mask in masks:
            shown = image.copy()
            ImageDraw.Draw(shown).ellipse(_around(mask, line), outline=RED, width=line)
            yield shown


def _around(mask: Tensor, line: int) -> tuple[int, int, int, int]:
    """Outer corners, inclusive as PIL wants them, of a line centred on the box's outermost
    pixels."""
    left, top, right, bottom = bounding_box(mask)
    before, after = (line - 1) // 2, line // 2
    return left - before, top - before, right - 1 + after, bottom - 1 + after
