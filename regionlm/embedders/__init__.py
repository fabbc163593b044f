"""Region -> vector of the joint space.

Names are imported on first use: ``embedders.options`` can be read before torch is loaded.
"""

from typing import TYPE_CHECKING

from prefix_models.lazy import on_first_use

if TYPE_CHECKING:
    from regionlm.embedders.embedder import Embedder
    from regionlm.embedders.embedder_registry import EMBEDDERS, make_embedder
    from regionlm.embedders.localized import Localized, RegionEmbeddings
    from regionlm.embedders.maskinversion import MaskInversion

_HOMES = {
    "EMBEDDERS": "embedder_registry",
    "Embedder": "embedder",
    "Localized": "localized",
    "MaskInversion": "maskinversion",
    "RegionEmbeddings": "localized",
    "make_embedder": "embedder_registry",
}

__all__ = [
    "EMBEDDERS",
    "Embedder",
    "Localized",
    "MaskInversion",
    "RegionEmbeddings",
    "make_embedder",
]


__getattr__ = on_first_use(__name__, _HOMES)
