"""Open Images V7 segmentation masks: 350 classes, a mask for each object.

Benenson et al., Large-scale interactive object segmentation with human annotators, CVPR 2019;
https://storage.googleapis.com/openimages/web/download_v7.html.
"""

from __future__ import annotations

import csv
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from regionlm.datasets.data_errors import DataError, DataWarning, check_split
from regionlm.datasets.dataset_files import (
    annotation_files,
    check_counts,
    find_needed,
    locate,
    locate_by_id,
    read_lines,
)
from regionlm.datasets.dataset_options import OpenImagesOptions
from regionlm.datasets.hierarchy import read_relatives
from regionlm.datasets.image_files import check_proportions, read_binary_mask, read_photo
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.datasets.sample import Sample, labelled_sample

_PUBLISHED = {
    "validation": {"images": 13_524, "masks": 24_730, "classes": 350},
    "test": {"images": 40_386, "masks": 74_102, "classes": 350},
    "train": {"images": 944_037, "masks": 2_686_666, "classes": 350},
}
_HIERARCHY = "bbox_labels_600_hierarchy.json"
_TREE = f"https://storage.googleapis.com/openimages/2018_04/{_HIERARCHY}"
_COLUMNS = ("MaskPath", "ImageID", "LabelName")


class _Mask(NamedTuple):
    file: str
    name: str
    label: int


class OpenImages(RegionDataset):
    """A sample for each image that has masks, with a mask and a class for each object.

    Mask files have another size than the image; masks are resized by the nearest pixel.
    The id of a mask is its `MaskPath` without ".png".
    """

    def __init__(
        self,
        root: str | Path,
        split: str = OpenImagesOptions.default_split,
        *,
        allow_missing: bool = False,
        **options: Any,
    ) -> None:
        """Open a split.

        root: folder of `SPLIT-annotations-object-segmentation.csv`, `classes-segmentation.txt`,
        `class-descriptions-boxable.csv` (or the names of V6 and V7) and `SPLIT-masks/`, with the
        files of the 16 zips in one folder or in a folder for each.
        split: validation, test or train.
        allow_missing: report an image with a missing file when it is read, not now.
        options: fields of `OpenImagesOptions`.

        Raises DataError: unknown split, bad option, missing or damaged files.
        """
        chosen = OpenImagesOptions(**options)
        self.name, self.split = chosen.dataset, split
        check_split(self.name, split, tuple(_PUBLISHED))
        root, download = Path(root), _download(split)
        home = Path(chosen.images or root)
        needs = _needs(root, split)
        needs["images"] = [home / split, home / "images" / split]
        needs["images"] += [home] if chosen.images else []
        found = find_needed(self.name, root, needs, download)
        listed = ("masks list", "classes", "class names")
        mids = _read_mids(found["classes"][0])
        self.classes = _names_of(mids, found["class names"])
        trees = _hierarchies(root, chosen.hierarchy)
        self.relatives = read_relatives(trees[0], mids) if trees else ()
        self.annotations = (*annotation_files({what: found[what] for what in listed}), *trees)
        rows = _read_rows(found["masks list"][0])
        self._check(rows)
        rows = _of_classes(rows, set(mids))
        label_of = {mid: label for label, mid in enumerate(mids)}
        names = [_mask_places(row, split) for row in rows]
        files = locate(self.name, "masks", names, found["masks"], download, allow_missing)
        self._masks = _group(rows, files, label_of)
        ids = list(self._masks)
        photos = locate_by_id(
            self.name, "images", ids, ".jpg", found["images"], download, allow_missing
        )
        super().__init__(ids, photos)

    def _check(self, rows: Sequence[dict[str, str]]) -> None:
        counts = {
            "images": len({row["ImageID"] for row in rows}),
            "masks": len(rows),
            "classes": len(self.classes),
        }
        check_counts(f"openimages {self.split}", counts, _PUBLISHED[self.split])

    def _load(self, row: int) -> Sample:
        entries = self._masks[self._ids[row]]
        native = [read_binary_mask(entry.file) for entry in entries]
        height, width = native[0].shape
        photo = read_photo(self._photos[row], (width, height))
        for entry, mask in zip(entries, native, strict=True):
            check_proportions(entry.file, mask.shape[::-1], photo.size)
        return labelled_sample(
            self._ids[row],
            photo,
            {entry.name: mask for entry, mask in zip(entries, native, strict=True)},
            [entry.label for entry in entries],
            self.classes,
        )


def _needs(root: Path, split: str) -> dict[str, list[Path]]:
    folders = _folders(root)
    listing = f"{split}-annotations-object-segmentation.csv"
    classes = ("classes-segmentation.txt", "oidv7-classes-segmentation.txt")
    names = ("*class-descriptions-boxable.csv", "*class-descriptions.csv")
    masks = (f"{split}-masks", f"masks/{split}", "masks", f"{split}-masks-*")
    return {
        "masks list": [folder / listing for folder in folders],
        "classes": [folder / name for name in classes for folder in folders],
        "class names": [folder / name for name in names for folder in folders],
        "masks": [root / name for name in masks],
    }


def _hierarchies(root: Path, given: str | Path | None) -> list[Path]:
    """Return the hierarchy's file, if there is one."""
    if given is not None and not Path(given).is_file():
        raise DataError(f"openimages: expected the file {given}; {_HIERARCHY} is one, at {_TREE}")
    places = [Path(given)] if given else [folder / _HIERARCHY for folder in _folders(root)]
    return [place for place in places if place.is_file()][:1]


def _folders(root: Path) -> tuple[Path, ...]:
    return (root, root / "annotations", root / "metadata")


def _mask_places(row: dict[str, str], split: str) -> tuple[str, ...]:
    """Return where a mask may be: flat, by first letter (some tools: capital), or by zip."""
    path, letter = row["MaskPath"], row["ImageID"][:1].lower()
    folders = (letter, letter.upper(), f"{split}-masks-{letter}")
    return (path, *(f"{folder}/{path}" for folder in dict.fromkeys(folders)))


def _read_mids(file: Path) -> list[str]:
    mids = [line.strip().split(",")[0] for line in read_lines(file)]
    if not mids or not all(mid.startswith("/") for mid in mids):
        raise DataError(f"{file}: expected a class id like /m/04yx4 on each line; fetch it again")
    return mids


def _names_of(mids: Sequence[str], files: Sequence[Path]) -> tuple[str, ...]:
    """Read the names of classes; the files have more classes, and some have a header."""
    names: dict[str, str] = {}
    for file in files:
        rows = [row for row in _csv_rows(file) if len(row) == 2 and row[0].startswith("/")]
        names = {**dict(rows), **names}
    unnamed = [mid for mid in mids if mid not in names]
    if unnamed:
        raise DataError(
            f"{files[0]}: no name for {len(unnamed)} of {len(mids)} classes, for example "
            f"{unnamed[0]}: fetch class-descriptions-boxable.csv again"
        )
    return tuple(names[mid] for mid in mids)


def _read_rows(file: Path) -> list[dict[str, str]]:
    """Read the columns that we need, as text: an image id may look like a number (123e456)."""
    rows = _csv_rows(file, strict=True)
    header = next(rows, [])
    missing = set(_COLUMNS) - set(header)
    if missing:
        raise DataError(
            f"{file}: expected columns {', '.join(_COLUMNS)}; without "
            f"{', '.join(sorted(missing))} it is the wrong file: fetch it again"
        )
    places = [header.index(column) for column in _COLUMNS]
    found: dict[str, dict[str, str]] = {}
    for row in filter(None, rows):
        cells = [row[place] if place < len(row) else "" for place in places]
        if not all(cells):
            raise DataError(f"{file}: the row of {cells[0]} is cut off: fetch it again")
        found.setdefault(cells[0], dict(zip(_COLUMNS, cells, strict=True)))
    return list(found.values())


def _csv_rows(file: Path, *, strict: bool = False) -> Iterator[list[str]]:
    line = 0
    try:
        with open(file, encoding="utf-8-sig", newline="") as stream:
            reader = csv.reader(stream, strict=strict)
            for row in reader:
                line = reader.line_num
                yield row
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{file} cannot be read as CSV in UTF-8 after line {line} ({error}): fetch it again"
        ) from error


def _of_classes(rows: list[dict[str, str]], mids: set[str]) -> list[dict[str, str]]:
    kept = [row for row in rows if row["LabelName"] in mids]
    if len(kept) < len(rows):
        other = next(row["LabelName"] for row in rows if row["LabelName"] not in mids)
        warnings.warn(
            f"openimages: {len(rows) - len(kept):,} of {len(rows):,} masks are of classes that "
            f"classes-segmentation.txt lacks, for example {other}; they are left out",
            DataWarning,
            stacklevel=3,
        )
    return kept


def _group(
    rows: Sequence[dict[str, str]], files: Sequence[str], label_of: dict[str, int]
) -> dict[str, list[_Mask]]:
    """Group masks by image."""
    groups: dict[str, list[_Mask]] = {}
    for row, file in zip(rows, files, strict=True):
        mask = _Mask(file, row["MaskPath"].removesuffix(".png"), label_of[row["LabelName"]])
        groups.setdefault(row["ImageID"], []).append(mask)
    return groups


def _download(split: str) -> str:
    base = "https://storage.googleapis.com/openimages/v5"
    return (
        f"{base}/{split}-annotations-object-segmentation.csv, {base}/classes-segmentation.txt, "
        f"{base}/class-descriptions-boxable.csv, {base}/{split}-masks/{split}-masks-X.zip with X "
        "in 0..9 and a..f; images: https://storage.googleapis.com/openimages/web/download_v7.html"
    )
