"""Examples to train on: images, regions and what is said of them, from several kinds of files.

Names are imported on first use: `data.options` can be read before torch is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.data.example import Example, Source
    from training.data.registry import PAIR_SOURCES, SOURCES, open_pair_source, open_source

_HOMES = {
    "PAIR_SOURCES": "registry",
    "SOURCES": "registry",
    "Example": "example",
    "Source": "example",
    "open_pair_source": "registry",
    "open_source": "registry",
}

__all__ = ["PAIR_SOURCES", "SOURCES", "Example", "Source", "open_pair_source", "open_source"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'training.data' has no attribute {name!r}")
    return getattr(import_module(f"training.data.{_HOMES[name]}"), name)
