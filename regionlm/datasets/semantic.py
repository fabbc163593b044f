"""Datasets annotated with label maps: one mask for each class in an image."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from regionlm.datasets.data_errors import DataError
from regionlm.datasets.dataset_files import check_counts, locate_by_id
from regionlm.datasets.dataset_options import VocOptions
from regionlm.datasets.image_files import read_photo
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.datasets.sample import Sample, labelled_sample


class SemanticDataset(RegionDataset):
    """A sample for each image: all pixels of a class are one mask.

    Mask ids are "IMAGE/CLASS" with the class name of the files; masks are in the order of classes.

    raw_classes: names of class 1, 2, ... in the files. spelled: English words for those that are
    none, by raw name. published: number of images by split. download: where to get the dataset.
    """

    raw_classes: ClassVar[Sequence[str]]
    spelled: ClassVar[Mapping[str, str]]
    published: ClassVar[Mapping[str, int]]
    download: ClassVar[str]

    def __init__(
        self,
        ids: Sequence[str],
        photo_folders: Sequence[Path],
        options: VocOptions,
        allow_missing: bool,
    ) -> None:
        """Find the photos and set up the classes; `name` and `split` must be set before.

        ids: ids of all images of the split. photo_folders: where their `ID.jpg` may be.

        Raises DataError: photos are missing, or `options.drop_classes` has an unknown class.
        """
        counted = {"images": self.published[self.split]}
        check_counts(f"{self.name} {self.split}", {"images": len(ids)}, counted)
        photos = locate_by_id(
            self.name, "images", ids, ".jpg", photo_folders, self.download, allow_missing
        )
        super().__init__(ids, photos)
        words = {name: self.spelled.get(name, name) for name in self.raw_classes}
        dropped = {_raw_name(self.name, given, words) for given in options.drop_classes}
        numbered = enumerate(self.raw_classes, start=1)
        self._raw = {number: name for number, name in numbered if name not in dropped}
        kept = self._raw.values()
        self.classes = tuple(words[name] if options.names == "spelled" else name for name in kept)

    @abstractmethod
    def _label_map(self, row: int) -> np.ndarray:
        """Return the class of each pixel, integers [H, W]: 1, 2, ... of `raw_classes`, or none."""

    def _load(self, row: int) -> Sample:
        numbers = self._label_map(row)
        there = set(np.unique(numbers).tolist())
        masks, labels = {}, []
        for label, (number, raw) in enumerate(self._raw.items()):
            if number in there:
                masks[f"{self._ids[row]}/{raw}"] = numbers == number
                labels.append(label)
        height, width = numbers.shape
        photo = read_photo(self._photos[row], (width, height))
        return labelled_sample(self._ids[row], photo, masks, labels, self.classes)


def check_labels(numbers: np.ndarray, allowed: Sequence[int], path: str, hint: str) -> None:
    """Raise DataError if a label map, integers [H, W], contains other numbers than `allowed`."""
    others = np.setdiff1d(numbers, allowed)
    if len(others):
        raise DataError(
            f"{path}: expected class numbers {min(allowed)}..{max(allowed)}, found "
            f"{', '.join(map(str, others[:5]))}: {hint}"
        )


def _raw_name(dataset: str, given: str, words: Mapping[str, str]) -> str:
    for raw, spelled in words.items():
        if given in (raw, spelled):
            return raw
    raise DataError(
        f"{dataset}: expected classes to drop among {', '.join(words)}; found {given!r}"
    )
