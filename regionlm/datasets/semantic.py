"""Datasets whose annotation is a label map: one mask per image and class."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence

import numpy as np

from regionlm.datasets.data_errors import DataError
from regionlm.datasets.image_files import read_photo
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.datasets.sample import Sample, labelled_sample


class SemanticDataset(RegionDataset):
    """A sample per image: for each class in it, all pixels of that class are one mask.

    Mask ids are "IMAGE/CLASS", the class as the files call it; masks are in the order of classes.
    """

    def __init__(
        self,
        ids: Sequence[str],
        photos: Sequence[str],
        names: Sequence[str],
        style: str,
        spelled: Mapping[str, str],
        drop_classes: Sequence[str],
    ) -> None:
        """Set up the classes.

        names: of class 1, 2, ..., as the files call them. style: "raw" for these, "spelled" for
        words of English; spelled: the names that differ. drop_classes: names, of either style,
        that are no class and give no mask.

        Raises DataError: unknown class.
        """
        super().__init__(ids, photos)
        words = {name: spelled.get(name, name) for name in names}
        dropped = {_raw_name(self.name, given, words) for given in drop_classes}
        self._raw = {i: name for i, name in enumerate(names, start=1) if name not in dropped}
        kept = self._raw.values()
        self.classes = tuple(words[name] if style == "spelled" else name for name in kept)

    @abstractmethod
    def _label_map(self, row: int) -> np.ndarray:
        """Class of each pixel, integers [H, W]: 1, 2, ... as in `names`; others are no class."""

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
    """Raise DataError if a label map, integers [H, W], holds other numbers than `allowed`."""
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
