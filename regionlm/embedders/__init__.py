"""Region -> vector of the joint space.

Names are imported on first use: ``embedders.options`` can be read before torch is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regionlm.embedders.embedder import Embedder
    from regionlm.embedders.localized import Localized, RegionEmbeddings
    from regionlm.embedders.maskinversion import MaskInversion
    from regionlm.embedders.registry import EMBEDDERS, make_embedder

_HOMES = {
    "EMBEDDERS": "registry",
    "Embedder": "embedder",
    "Localized": "localized",
    "MaskInversion": "maskinversion",
    "RegionEmbeddings": "localized",
    "make_embedder": "registry",
}

__all__ = [
    "EMBEDDERS",
    "Embedder",
    "Localized",
    "MaskInversion",
    "RegionEmbeddings",
    "make_embedder",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'regionlm.embedders' has no attribute {name!r}")
    return getattr(import_module(f"regionlm.embedders.{_HOMES[name]}"), name)
