"""COCO: instances of 80 classes.

Lin et al., Microsoft COCO: Common Objects in Context, ECCV 2014; https://cocodataset.org.
"""

from __future__ import annotations

import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from regionlm.datasets.data_errors import DataError, DataWarning, check_split
from regionlm.datasets.dataset_files import annotation_files, check_counts, find_needed, locate
from regionlm.datasets.dataset_options import CocoOptions
from regionlm.datasets.image_files import read_photo
from regionlm.datasets.instances import annotation_masks, read_instances
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.datasets.sample import Sample, labelled_sample

_PUBLISHED = {
    "val2017": {"images": 5_000, "instances": 36_335, "crowds": 446, "classes": 80},
    "train2017": {"images": 118_287, "instances": 849_949, "classes": 80},
    "val2014": {"classes": 80},
    "train2014": {"classes": 80},
}


class Coco(RegionDataset):
    """A sample for each image that has instances, with a mask and a class for each instance.

    Category ids in the file run from 1 to 90 with gaps; `labels` count from 0, in file order.
    """

    def __init__(
        self,
        root: str | Path,
        split: str = CocoOptions.default_split,
        *,
        allow_missing: bool = False,
        **options: Any,
    ) -> None:
        """Open a split.

        root: folder of `annotations/instances_SPLIT.json`. split: val2017, train2017, val2014 or
        train2014.
        allow_missing: report an image whose file is missing when it is read, not now.
        options: fields of `CocoOptions`.

        Raises DataError: unknown split, bad option, missing or damaged files.
        """
        chosen = CocoOptions(**options)
        self.name, self.split = chosen.dataset, split
        check_split(self.name, split, tuple(_PUBLISHED))
        root, home = Path(root), Path(chosen.images or root)
        name = f"instances_{split}.json"
        needs = {
            name: [root / "annotations" / name, root / name],
            "images": [home / split, home / "images" / split] + ([home] if chosen.images else []),
        }
        download = _download(split)
        found = find_needed(self.name, root, needs, download)
        self.annotations = annotation_files(found)
        self._instances = read_instances(found[name][0], include_crowd=chosen.include_crowd)
        self._label_of = {number: i for i, number in enumerate(self._instances.categories)}
        self.classes = tuple(self._instances.categories.values())
        self._check()
        self._check_names(found[name][0])
        kept = set(self._instances.table.images.tolist())
        known = {number: p for number, p in self._instances.photos.items() if number in kept}
        names = [(photo.file_name,) for photo in known.values()]
        photos = locate(self.name, "images", names, found["images"], download, allow_missing)
        super().__init__([str(number) for number in known], photos)

    def _check(self) -> None:
        counts = {
            "images": len(self._instances.photos),
            "instances": self._instances.single,
            "crowds": self._instances.crowd,
            "classes": len(self.classes),
        }
        check_counts(f"coco {self.split}", counts, _PUBLISHED[self.split])

    def _check_names(self, file: Path) -> None:
        """Warn about classes with the same name, which texts can't tell apart."""
        alike = [name for name, count in Counter(self.classes).items() if count > 1]
        if alike:
            warnings.warn(
                f"{file}: expected categories of different names, found {len(alike)} names that"
                f" several have, for example {alike[0]!r}; they count as different classes",
                DataWarning,
                stacklevel=3,
            )

    def _load(self, row: int) -> Sample:
        number = int(self._ids[row])
        photo, table = self._instances.photos[number], self._instances.table
        annotations = table.of_image(number)
        return labelled_sample(
            self._ids[row],
            read_photo(self._photos[row], (photo.width, photo.height)),
            annotation_masks(annotations, photo, table.name),
            [self._label(annotation) for annotation in annotations],
            self.classes,
        )

    def _label(self, annotation: dict[str, Any]) -> int:
        category = annotation.get("category_id")
        label = self._label_of.get(category) if isinstance(category, int) else None
        if label is None:
            raise DataError(
                f"{self._instances.table.name}, annotation {annotation['id']}: expected the "
                f"category_id of one of its {len(self.classes)} categories, found {category!r}: "
                "fetch it again"
            )
        return label


def _download(split: str) -> str:
    return (
        f"http://images.cocodataset.org/annotations/annotations_trainval{split[-4:]}.zip and "
        f"http://images.cocodataset.org/zips/{split}.zip"
    )
