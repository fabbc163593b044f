"""The three formats of Pascal Context's annotation, all read as maps of 459 numbers."""

from __future__ import annotations

import re
import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefix_models.errors import within
from regionlm.datasets.context_classes import CLASSES, SYNONYMS
from regionlm.datasets.data_errors import DataError, DataWarning
from regionlm.datasets.dataset_files import locate_by_id, read_lines
from regionlm.datasets.image_files import read_label_map
from regionlm.datasets.instances import segmentation_mask
from regionlm.datasets.json_records import TableBuilder, scan, whole_size
from regionlm.datasets.semantic import check_labels


class LabelMaps(ABC):
    """Label maps by image id."""

    @abstractmethod
    def read(self, image_id: str) -> np.ndarray:
        """Read the class number of each pixel, int64 [H, W], 0 for none; DataError if damaged."""


class _MapFiles(LabelMaps):
    """Label maps with a file for each image."""

    suffix: str

    def __init__(
        self, folder: Path, ids: Sequence[str], download: str, allow_missing: bool
    ) -> None:
        paths = locate_by_id(
            "context59", "label maps", ids, self.suffix, [folder], download, allow_missing
        )
        self.paths = dict(zip(ids, paths, strict=True))


class MatFiles(_MapFiles):
    """The authors' `trainval/ID.mat`: a matrix LabelMap of the 459 numbers.

    If their `labels.txt` is in the folder or above it, its numbers are compared with ours.
    """

    suffix = ".mat"

    def __init__(
        self, folder: Path, ids: Sequence[str], download: str, allow_missing: bool
    ) -> None:
        """Find the files; DataError if some are missing."""
        super().__init__(folder, ids, download, allow_missing)
        for labels in (folder / "labels.txt", folder.parent / "labels.txt"):
            if labels.is_file():
                check_names(labels, read_names(labels))

    def read(self, image_id: str) -> np.ndarray:
        """See `LabelMaps`."""
        from scipy.io import loadmat  # late: training reads PhraseCut without it

        path = self.paths[image_id]
        try:
            found = loadmat(path, variable_names=["LabelMap"]).get("LabelMap")
        except FileNotFoundError as error:
            raise DataError(f"{path}: no such file") from error
        except Exception as error:  # scipy's readers raise many types on damaged files
            raise DataError(f"{path} is no MATLAB file ({error}): fetch it again") from error
        if found is None or found.ndim != 2:
            shape = "none" if found is None else f"the shape {list(found.shape)}"
            raise DataError(f"{path}: expected a matrix LabelMap [H, W], found {shape}")
        return found.astype(np.int64)


class PngFiles(_MapFiles):
    """mmsegmentation's conversion: 0 is background, 1 to 59 are the classes in ascending order."""

    suffix = ".png"

    def read(self, image_id: str) -> np.ndarray:
        """See `LabelMaps`."""
        path = self.paths[image_id]
        numbers = read_label_map(path)
        hint = (
            "another conversion, whose numbers mean other classes; run mmsegmentation's "
            "tools/dataset_converters/pascal_context.py"
        )
        check_labels(numbers, range(len(CLASSES) + 1), path, hint)
        return np.array([0, *CLASSES], np.int64)[numbers]


class Detail(LabelMaps):
    """PASCAL in Detail's `trainval_merged.json`: regions drawn in order, later ones on top."""

    def __init__(self, file: Path) -> None:
        """Go through the file once, and keep where its regions are."""
        self._images: dict[str, _DetailImage] = {}
        builder, names = TableBuilder(), {}
        try:
            for record in scan(file):
                item = record.value
                if record.key == "images":
                    place = f"{file}, image {item['image_id']}"
                    size = whole_size(item["width"], item["height"], place)
                    image = _DetailImage(item["image_id"], *size, item["phase"])
                    self._images[Path(item["file_name"]).stem] = image
                elif record.key == "annos_segmentation":
                    builder.add(item["image_id"], record)
                elif record.key == "categories":
                    names[item["category_id"]] = item["name"]
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{file}: expected images, annos_segmentation and categories of PASCAL in Detail; "
                f"a record lacks {error}: fetch trainval_merged.json again"
            ) from error
        check_names(file, names)
        self._table = builder.table()

    def ids_of(self, split: str) -> list[str]:
        """Return the ids of the images of train, val or trainval, in file order."""
        phases = ("train", "val") if split == "trainval" else (split,)
        return [name for name, image in self._images.items() if image.phase in phases]

    def read(self, image_id: str) -> np.ndarray:
        """See `LabelMaps`."""
        image = self._images[image_id]
        numbers = np.zeros((image.height, image.width), np.int64)
        for region in self._table.of_image(image.number):
            with within(f"{self._table.name}, annotation {region.get('id')}", DataError):
                mask = segmentation_mask(region.get("segmentation"), (image.width, image.height))
                category = region.get("category_id")
                if type(category) is not int:
                    raise DataError(f"expected a category_id, found {category!r}: fetch it again")
            numbers[mask] = category
        return numbers


class _DetailImage(NamedTuple):
    number: int
    width: int
    height: int
    phase: str


def read_names(file: Path) -> dict[int, str]:
    """Read `labels.txt`, with lines "NUMBER: NAME"; DataError for anything else."""
    lines = read_lines(file)
    parts = [re.fullmatch(r"\s*(\d+)\s*:\s*(.+?)\s*", line) for line in lines]
    if not all(parts):
        bad = lines[parts.index(None)]
        raise DataError(f"{file}: expected lines like '2: aeroplane'; found {bad!r}")
    return {int(part[1]): part[2] for part in parts if part is not None}


def check_names(file: Path, names: Mapping[int, Any]) -> None:
    """Warn if a file has other names for our 59 numbers, which would mean other classes."""
    differing = {
        number: names.get(number)
        for number, name in CLASSES.items()
        if SYNONYMS.get(str(names.get(number)), names.get(number)) != name
    }
    if differing:
        number, found = next(iter(differing.items()))
        warnings.warn(
            f"context59: {file.name} has other names for {len(differing)} of the 59 classes "
            f"than expected, for example {number} {found!r} instead of {CLASSES[number]!r}",
            DataWarning,
            stacklevel=4,
        )
