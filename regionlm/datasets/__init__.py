"""Published datasets of regions with texts or classes, in their authors' formats.

`open_dataset` opens one by name. All give the same `Sample`. Needs `pip install "regionlm[eval]"`.
Names are imported on first use: `datasets.options` can be read before torch is loaded.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from regionlm.datasets.base import RegionDataset
    from regionlm.datasets.registry import DATASETS, open_dataset
    from regionlm.datasets.sample import Sample

_HOMES = {
    "DATASETS": "registry",
    "RegionDataset": "base",
    "Sample": "sample",
    "open_dataset": "registry",
}

__all__ = ["DATASETS", "RegionDataset", "Sample", "open_dataset"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'regionlm.datasets' has no attribute {name!r}")
    return getattr(import_module(f"regionlm.datasets.{_HOMES[name]}"), name)
