"""`crop` and `masked_crop`: the model sees nothing but the region."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, get_args

from PIL import Image
from torch import Tensor

from regionlm.backbones.clip_vit import ClipViT
from regionlm.embedders.pictures import PictureEmbedder, as_area, bounding_box
from regionlm.errors import InputError

Extent = Literal["image", "box"]


class Crop(PictureEmbedder):
    """The mask's bounding box, cut out before anything is resized, squashed to the model's input.

    As in ReCLIP (Subramanian et al. 2022), whose boxes are not enlarged either. A thin box is
    squashed hard. Options: see ``Embedder``.
    """

    def pictures(self, image: Image.Image, masks: Tensor) -> Iterator[Image.Image]:
        """See ``PictureEmbedder.pictures``."""
        return (image.crop(bounding_box(mask)) for mask in masks)


class MaskedCrop(PictureEmbedder):
    """The region's pixels, all others in the model's mean colour (rounded to 8 bits).

    Args:
        extent: ``"image"`` keeps the full frame, which is what the MaskInversion paper's "masked
            crop" means; ``"box"`` cuts the mask's bounding box out of it, as most other codes do.
        backbone, size: see ``Embedder``.
    """

    def __init__(
        self,
        backbone: ClipViT,
        *,
        extent: Extent = "image",
        size: int | tuple[int, int] | None = None,
    ) -> None:
        super().__init__(backbone, size=size)
        if extent not in get_args(Extent):
            raise InputError(f"extent: expected image or box, got {extent!r}")
        self.extent = extent

    def pictures(self, image: Image.Image, masks: Tensor) -> Iterator[Image.Image]:
        """See ``PictureEmbedder.pictures``."""
        colour = tuple(round(255 * mean) for mean in self.backbone.mean)
        background = Image.new("RGB", image.size, colour)
        for mask in masks:
            shown = Image.composite(image, background, as_area(mask))
            yield shown if self.extent == "image" else shown.crop(bounding_box(mask))
