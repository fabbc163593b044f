"""Pascal Context: 59 classes of things and stuff, one mask per image and class.

Mottaghi et al., The Role of Context for Object Detection and Semantic Segmentation in the Wild,
CVPR 2014. The images are those of VOC 2010. The annotation comes in three formats; any will do.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from regionlm.datasets.context_classes import CLASSES, SPELLED
from regionlm.datasets.context_maps import Detail, LabelMaps, MatFiles, PngFiles
from regionlm.datasets.data_errors import DataError, check_split
from regionlm.datasets.dataset_files import annotation_files, find_needed, read_ids
from regionlm.datasets.dataset_options import ContextOptions
from regionlm.datasets.semantic import SemanticDataset

_DETAIL_FILE = "trainval_merged.json"

# Position, from 1, of each original number among the 59; 0 for all others.
_INDEX = np.zeros(max(CLASSES) + 1, np.int64)
_INDEX[list(CLASSES)] = np.arange(1, len(CLASSES) + 1)


class Context59(SemanticDataset):
    """A sample for each image: all pixels of a class are one mask.

    Classes are in the order of their original numbers, which is that of their raw names. Pixels of
    the other 400 classes are in no mask.
    """

    raw_classes = tuple(CLASSES.values())
    spelled = SPELLED
    published: ClassVar[Mapping[str, int]] = {"train": 4_998, "val": 5_105, "trainval": 10_103}
    download = (
        "images and image lists http://host.robots.ox.ac.uk/pascal/VOC/voc2010/"
        "VOCtrainval_03-May-2010.tar; annotation trainval.tar.gz and labels.txt of "
        "https://cs.stanford.edu/~roozbeh/pascal-context/, or "
        "https://codalabuser.blob.core.windows.net/public/trainval_merged.json"
    )

    def __init__(
        self,
        root: str | Path,
        split: str = ContextOptions.default_split,
        *,
        allow_missing: bool = False,
        **options: Any,
    ) -> None:
        """Open a split.

        root: `VOC2010/`, `VOCdevkit/` above it, or the folder above that; the annotation is in root
        or in `VOC2010/`.
        split: train, val or trainval.
        allow_missing: report an image whose file is missing when it is read, not now.
        options: fields of `ContextOptions`.

        Raises DataError: unknown split, bad option, missing or damaged files.
        """
        chosen = ContextOptions(**options)
        self.name, self.split = chosen.dataset, split
        check_split(self.name, split, tuple(self.published))
        root = Path(root)
        places = _places(root)
        form = self._choose_form(root, places) if chosen.form == "auto" else chosen.form
        needs = {form: places[form], "JPEGImages": _within(root, "JPEGImages")}
        if form != "detail":
            needs[f"the list {split}.txt"] = _lists(root, split)
        found = find_needed(self.name, root, needs, self.download)
        self.annotations = annotation_files(found)
        self._maps: LabelMaps
        if form == "detail":
            detail = Detail(found[form][0])
            self._maps, ids = detail, detail.ids_of(split)
        else:
            ids = read_ids(found[f"the list {split}.txt"][0])
            files = MatFiles if form == "mat" else PngFiles
            self._maps = files(found[form][0], ids, self.download, allow_missing)
        super().__init__(ids, found["JPEGImages"], chosen, allow_missing)

    def _label_map(self, row: int) -> np.ndarray:
        numbers = self._maps.read(self._ids[row])
        known = (numbers > 0) & (numbers < len(_INDEX))
        return np.where(known, _INDEX[np.where(known, numbers, 0)], 0)

    def _choose_form(self, root: Path, places: dict[str, list[Path]]) -> str:
        for form, candidates in places.items():
            if any(place.exists() for place in candidates):
                return form
        raise DataError(
            f"{self.name}: no annotation in {root}; expected, there or in VOC2010/, one of "
            f"SegmentationClassContext/ID.png, trainval/ID.mat or {_DETAIL_FILE}; and "
            f"VOC2010/JPEGImages/. Download: {self.download}"
        )


def _within(root: Path, *names: str) -> list[Path]:
    homes = (root, root / "VOC2010", root / "VOCdevkit" / "VOC2010")
    return [home / name for name in names for home in homes]


def _places(root: Path) -> dict[str, list[Path]]:
    return {
        "png": _within(root, "SegmentationClassContext"),
        "mat": _within(root, "trainval", "pascal-context/trainval"),
        "detail": _within(root, _DETAIL_FILE),
    }


def _lists(root: Path, split: str) -> list[Path]:
    # VOC 2010's own lists for detection are the split of Pascal Context.
    names = (f"ImageSets/SegmentationContext/{split}.txt", f"ImageSets/Main/{split}.txt")
    return [*_within(root, *names), root / f"{split}.txt"]
