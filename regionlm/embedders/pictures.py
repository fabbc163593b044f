"""Embedders that show the model one picture per region, cropped or painted from the image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, groupby, islice

import torch
from PIL import Image
from torch import Tensor

from regionlm.embedders.embedder import AT_ONCE, Embedder, EmbedderImage
from regionlm.embedders.localized import RegionEmbeddings
from regionlm.errors import InputError
from regionlm.inputs.images import as_image
from regionlm.inputs.views import ImageView


class PictureEmbedder(Embedder[RegionEmbeddings]):
    """A region's embedding is that of a picture made for it, at the original's resolution, then
    brought to ``size`` by ``resize``. M + 1 forwards for M regions, a few pictures at a time.

    They take PIL images only; InputError for preprocessed pixels.
    """

    @abstractmethod
    def pictures(self, image: Image.Image, masks: Tensor) -> Iterator[Image.Image]:
        """One RGB picture per mask, made when asked for; ``image`` is RGB, ``masks`` are bool
        ``[M, H, W]`` of its size."""

    def vectors(self, pictures: Iterable[Image.Image]) -> Iterator[Tensor]:
        """The embedding ``[d]``, unnormalised, of each picture."""
        remaining = iter(pictures)
        while some := list(islice(remaining, AT_ONCE)):
            made = [self.backbone.preprocess(one, self.size, self.resize) for one in some]
            for _, alike in groupby(made, lambda pixels: pixels.shape):
                yield from self.backbone.embed_images(torch.stack(list(alike)))

    def _embed(
        self, images: Sequence[EmbedderImage], masks: list[Tensor]
    ) -> Iterator[RegionEmbeddings]:
        originals = [as_picture(image) for image in images]
        made = (
            chain([image], self.pictures(image, some))
            for image, some in zip(originals, masks, strict=True)
        )
        vectors = self.vectors(chain.from_iterable(made))
        for some in masks:
            whole, *regions = islice(vectors, 1 + len(some))
            yield RegionEmbeddings(torch.stack(regions), whole)


def as_picture(image: EmbedderImage) -> Image.Image:
    """An RGB picture; InputError for anything but a view, or a PIL image that `as_image` takes."""
    if isinstance(image, ImageView):
        return image.image
    if not isinstance(image, Image.Image):
        raise InputError(
            f"image: expected a PIL image, found {type(image).__name__}; this embedder cuts or"
            " paints the image itself"
        )
    return as_image(image)


def as_area(mask: Tensor) -> Image.Image:
    """A bool mask ``[H, W]`` as a 1-bit picture, for PIL's ``composite`` and ``getbbox``."""
    return Image.fromarray(mask.cpu().numpy())


def bounding_box(mask: Tensor) -> tuple[int, int, int, int]:
    """``(left, top, right, bottom)`` of a mask ``[H, W]`` with at least one pixel; right and bottom
    exclusive."""
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
