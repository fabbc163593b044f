"""Pascal VOC 2012 segmentation: 20 classes, one mask for each class in an image.

Everingham et al., The Pascal Visual Object Classes Challenge 2012;
http://host.robots.ox.ac.uk/pascal/VOC/voc2012/.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from regionlm.datasets.data_errors import check_split
from regionlm.datasets.dataset_files import annotation_files, find_needed, locate_by_id, read_ids
from regionlm.datasets.dataset_options import VocOptions
from regionlm.datasets.image_files import read_label_map
from regionlm.datasets.semantic import SemanticDataset, check_labels

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow",
    "diningtable", "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train",
    "tvmonitor",
)  # fmt: skip
SPELLED = {
    "diningtable": "dining table",
    "pottedplant": "potted plant",
    "tvmonitor": "tv monitor",
}

_BACKGROUND, _VOID = 0, 255


class Voc2012(SemanticDataset):
    """A sample for each image: all pixels of a class are one mask.

    Background and the void border around objects are in no mask.
    """

    raw_classes = CLASSES
    spelled = SPELLED
    published: ClassVar[Mapping[str, int]] = {"train": 1_464, "val": 1_449, "trainval": 2_913}
    download = "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar"

    def __init__(
        self,
        root: str | Path,
        split: str = VocOptions.default_split,
        *,
        allow_missing: bool = False,
        **options: Any,
    ) -> None:
        """Open a split.

        root: `VOC2012/`, `VOCdevkit/` above it, or the folder above that.
        split: train, val or trainval.
        allow_missing: report an image whose file is missing when it is read, not now.
        options: fields of `VocOptions`.

        Raises DataError: unknown split, bad option, missing or damaged files.
        """
        chosen = VocOptions(**options)
        self.name, self.split = chosen.dataset, split
        check_split(self.name, split, tuple(self.published))
        root = Path(root)
        homes = (root, root / "VOC2012", root / "VOCdevkit" / "VOC2012")
        listing = f"ImageSets/Segmentation/{split}.txt"
        parts = (listing, "SegmentationClass", "JPEGImages")
        needs = {part: [home / part for home in homes] for part in parts}
        found = find_needed(self.name, root, needs, self.download)
        self.annotations = annotation_files(found)
        ids = read_ids(found[listing][0])
        super().__init__(ids, found["JPEGImages"], chosen, allow_missing)
        folders = found["SegmentationClass"]
        self._maps = locate_by_id(
            self.name, "label maps", ids, ".png", folders, self.download, allow_missing
        )

    def _label_map(self, row: int) -> np.ndarray:
        path = self._maps[row]
        numbers = read_label_map(path)
        allowed = (_BACKGROUND, *range(1, len(CLASSES) + 1), _VOID)
        hint = "this is no label map of VOC 2012; unpack the original again"
        check_labels(numbers, allowed, path, hint)
        return numbers
