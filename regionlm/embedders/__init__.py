"""Region -> vector of the joint space."""

from regionlm.embedders.embedder import Embedder
from regionlm.embedders.localized import Localized, RegionEmbeddings
from regionlm.embedders.maskinversion import MaskInversion
from regionlm.embedders.registry import EMBEDDERS, make_embedder

__all__ = [
    "EMBEDDERS",
    "Embedder",
    "Localized",
    "MaskInversion",
    "RegionEmbeddings",
    "make_embedder",
]
