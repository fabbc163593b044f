"""Published datasets of regions with texts or classes, in their authors' formats.

`open_dataset` opens one by name. All give the same `Sample`. Needs `pip install "regionlm[eval]"`.
"""

from eval.datasets.base import RegionDataset
from eval.datasets.registry import DATASETS, open_dataset
from eval.datasets.sample import Sample

__all__ = ["DATASETS", "RegionDataset", "Sample", "open_dataset"]
