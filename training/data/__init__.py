"""Examples to train on: images and regions with captions, from several kinds of files.

Names are imported on first use, so that the options of sources load no torch.
"""

from typing import TYPE_CHECKING

from prefix_models.lazy import on_first_use

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


__getattr__ = on_first_use(__name__, _HOMES)
