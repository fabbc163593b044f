"""`cls`: the embedding of the whole image, whatever the region."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from PIL import Image
from torch import Tensor

from regionlm.embedders.embedder import Embedder
from regionlm.embedders.localized import RegionEmbeddings


class WholeImage(Embedder[RegionEmbeddings]):
    """The image embedding (of a [CLS]-pooled model: its [CLS] token's) for every region.

    The lower bound of every comparison: regions of one image can't be told apart. One forward per
    image. Options: ``EmbedderOptions``.
    """

    def _embed(
        self, images: Sequence[Image.Image | Tensor], masks: list[Tensor]
    ) -> Iterator[RegionEmbeddings]:
        for positions, pixels in self._batches(images):
            for position, vector in zip(positions, self.backbone.embed_images(pixels), strict=True):
                yield RegionEmbeddings(vector.repeat(len(masks[position]), 1), vector)
