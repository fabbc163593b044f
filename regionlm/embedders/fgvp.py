"""`fgvp`: the whole picture, blurred outside the region ("blur reverse mask")."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image, ImageFilter
from torch import Tensor

from regionlm.backbones.clip_vit import ClipViT
from regionlm.embedders.inputs import check_number
from regionlm.embedders.pictures import PictureEmbedder, as_area

SHORT_SIDE = 384  # pixels: what the published code resizes a picture to before it blurs


class Fgvp(PictureEmbedder):
    """The region sharp, the rest of the picture blurred: fine-grained visual prompting (Yang et al.
    2023), their best prompt, "blur reverse mask".

    The published code resizes the short side to 384 pixels first and squashes afterwards; here the
    picture keeps its resolution, the blur grows with it, and only the squash follows. At a short
    side of 384 the pictures are equal. PIL's filter, theirs and ours, approximates a Gaussian.

    Args:
        blur: standard deviation of the blur, > 0, in pixels of a picture whose short side is 384
            [100, published].
        backbone, size: see ``Embedder``.
    """

    def __init__(
        self, backbone: ClipViT, *, blur: float = 100.0, size: int | tuple[int, int] | None = None
    ) -> None:
        super().__init__(backbone, size=size)
        self.blur = check_number("blur", blur, positive=True)

    def pictures(self, image: Image.Image, masks: Tensor) -> Iterator[Image.Image]:
        """See ``PictureEmbedder.pictures``."""
        deviation = self.blur * min(image.size) / SHORT_SIDE
        blurred = image.filter(ImageFilter.GaussianBlur(deviation))  # once, whatever the masks
        return (Image.composite(image, blurred, as_area(mask)) for mask in masks)
