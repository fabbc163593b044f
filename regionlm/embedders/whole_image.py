"""`cls`: the embedding of the whole image, whatever the region."""

from __future__ import annotations

from collections.abc import Hashable

from torch import Tensor

from regionlm.embedders.embedder import EmbedderImage, OneByOneEmbedder
from regionlm.embedders.localized import RegionEmbeddings


class WholeImage(OneByOneEmbedder[RegionEmbeddings, Tensor]):
    """The image embedding (of a [CLS]-pooled model: its [CLS] token's) for every region.

    The lower bound of every comparison: regions of one image can't be told apart. One forward per
    image. Options: ``EmbedderOptions``.
    """

    def _encode(self, pixels: Tensor) -> list[Tensor]:
        return list(self.backbone.embed_images(pixels))

    def _find(self, seen: Tensor, image: EmbedderImage, masks: Tensor) -> RegionEmbeddings:
        return RegionEmbeddings(seen.repeat(len(masks), 1), seen)

    @property
    def _key(self) -> tuple[Hashable, ...]:
        return ("image embedding",)
