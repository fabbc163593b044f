"""Embedders that give every patch a vector of the joint space, and a region the mean of its
patches' vectors."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable
from dataclasses import dataclass

import torch.nn.functional as F
from torch import Tensor

from regionlm.backbones.vision import VisionBackbone
from regionlm.embedders.coverage import mask_coverage
from regionlm.embedders.embedder import EmbedderImage, OneByOneEmbedder
from regionlm.embedders.localized import RegionEmbeddings
from regionlm.errors import InputError
from regionlm.relevance.products import by_row


@dataclass(frozen=True)
class DenseFeatures:
    """B images of one size in the joint space, unnormalised; of one image, without B."""

    patches: Tensor
    """``[B, gh * gw, d]``, row by row."""
    images: Tensor
    """``[B, d]``: the model's own image embeddings."""
    grid: tuple[int, int]


class DenseEmbedder(OneByOneEmbedder[RegionEmbeddings, DenseFeatures]):
    """A region's embedding is the mean of its patches' unit vectors, each weighted by the share of
    it that the mask covers.

    The MaskInversion paper pools "patch token representations" inside the mask and says no more;
    weights instead of a threshold are ours, so the smallest mask has an embedding, and so is the
    order: normalise, as each method does before it compares patches with texts, then average.
    One forward per image, next to nothing per mask.
    """

    @abstractmethod
    def features(self, pixels: Tensor) -> DenseFeatures:
        """Features of ``pixels [B, 3, H, W]`` (normalised). Call it under ``torch.no_grad``."""

    def _encode(self, pixels: Tensor) -> list[DenseFeatures]:
        found = self.features(pixels)
        return [
            DenseFeatures(patches, image, found.grid)
            for patches, image in zip(found.patches, found.images, strict=True)
        ]

    def _find(self, seen: DenseFeatures, image: EmbedderImage, masks: Tensor) -> RegionEmbeddings:
        coverage = mask_coverage(masks, seen.grid, self._placed(image))
        return RegionEmbeddings(pool_patches(seen.patches, coverage), seen.images)

    @property
    def _key(self) -> tuple[Hashable, ...]:
        return (type(self), self.options)


def refuse_attention_pool(embedder: str, backbone: VisionBackbone) -> None:
    """Raise InputError for a backbone that pools with attention; ``embedder`` can't use it."""
    if backbone.pooling == "attention":
        raise InputError(
            f"embedder: {embedder} needs a model whose last layer gives every patch a vector, but"
            f" {backbone.name} ends with an attention pool of one query; use maskclip"
        )


def pool_patches(patches: Tensor, coverage: Tensor) -> Tensor:
    """Means ``[M, d]`` of normalised ``patches [n, d]``, weighted by ``coverage [M, n]`` (>= 0, not
    all zero)."""
    weights = coverage / coverage.sum(1, keepdim=True)
    return by_row(weights.to(patches), F.normalize(patches, dim=1))
