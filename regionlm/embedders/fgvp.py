"""`fgvp`: the whole image, blurred outside the region ("blur reverse mask")."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image, ImageFilter
from torch import Tensor

from regionlm.embedders.options import FgvpOptions
from regionlm.embedders.pictures import PictureEmbedder, as_area

SHORT_SIDE = 384  # pixels: what the published code resizes a picture to before it blurs


class Fgvp(PictureEmbedder):
    """The region sharp, the rest of the image blurred: fine-grained visual prompting (Yang et al.
    2023), their best prompt, "blur reverse mask".

    The published code resizes the short side to 384 pixels first and squashes afterwards; here the
    picture keeps its resolution, the blur grows with it, and only the squash follows. At a short
    side of 384 the pictures are equal. PIL's filter, theirs and ours, approximates a Gaussian.
    Options: ``FgvpOptions``.
    """

    options_type = FgvpOptions
    options: FgvpOptions

    def pictures(self, image: Image.Image, masks: Tensor) -> Iterator[Image.Image]:
        """See ``PictureEmbedder.pictures``."""
        deviation = self.options.blur * min(image.size) / SHORT_SIDE
        blurred = image.filter(ImageFilter.GaussianBlur(deviation))  # once, whatever the masks
        return (Image.composite(image, blurred, as_area(mask)) for mask in masks)
