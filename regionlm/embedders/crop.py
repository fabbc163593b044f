"""`crop` and `masked_crop`: the model sees only the region."""

from __future__ import annotations

from collections.abc import Iterator

from PIL import Image
from torch import Tensor

from regionlm.embedders.options import MaskedCropOptions
from regionlm.embedders.pictures import PictureEmbedder, as_area, bounding_box


class Crop(PictureEmbedder):
    """The mask's bounding box, cut out before anything is resized, squashed to the model's input.

    As in ReCLIP (Subramanian et al. 2022), whose boxes are not enlarged either. A thin box is
    squashed hard; with another ``resize`` it keeps its shape. Options: ``EmbedderOptions``.
    """

    def pictures(self, image: Image.Image, masks: Tensor) -> Iterator[Image.Image]:
        """See ``PictureEmbedder.pictures``."""
        return (image.crop(bounding_box(mask)) for mask in masks)


class MaskedCrop(PictureEmbedder):
    """The region's pixels, all others in the model's mean colour (rounded to 8 bits).

    Options: ``MaskedCropOptions``.
    """

    options_type = MaskedCropOptions
    options: MaskedCropOptions

    def pictures(self, image: Image.Image, masks: Tensor) -> Iterator[Image.Image]:
        """See ``PictureEmbedder.pictures``."""
        colour = tuple(round(255 * mean) for mean in self.backbone.mean)
        background = Image.new("RGB", image.size, colour)
        for mask in masks:
            shown = Image.composite(image, background, as_area(mask))
            yield shown if self.options.extent == "image" else shown.crop(bounding_box(mask))
