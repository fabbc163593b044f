"""Published datasets of regions with texts or classes, in their authors' formats.

`open_dataset` opens one by name. All return the same `Sample`. They need the extra `eval`.
Names are imported on first use: `datasets.dataset_options` can be read before torch is loaded.
"""

from typing import TYPE_CHECKING

from prefix_models.lazy import on_first_use

if TYPE_CHECKING:
    from regionlm.datasets.dataset_registry import DATASETS, open_dataset
    from regionlm.datasets.region_dataset import RegionDataset
    from regionlm.datasets.sample import Sample

_HOMES = {
    "DATASETS": "dataset_registry",
    "RegionDataset": "region_dataset",
    "Sample": "sample",
    "open_dataset": "dataset_registry",
}

__all__ = ["DATASETS", "RegionDataset", "Sample", "open_dataset"]


__getattr__ = on_first_use(__name__, _HOMES)
