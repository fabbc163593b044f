"""PhraseCut: phrases and the regions of Visual Genome images that they refer to.

Wu et al., PhraseCut: Language-based Image Segmentation in the Wild, CVPR 2020; files and counts
as in https://github.com/ChenyunWu/PhraseCutDataset.
"""

from __future__ import annotations

import warnings
from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from prefix_models.errors import within
from regionlm.datasets.data_errors import DataError, DataWarning, check_split
from regionlm.datasets.dataset_files import annotation_files, check_counts, find_needed, locate
from regionlm.datasets.dataset_options import PhraseCutOptions
from regionlm.datasets.image_files import read_photo
from regionlm.datasets.json_records import RecordTable, TableBuilder, scan, whole_size
from regionlm.datasets.region_dataset import RegionDataset
from regionlm.datasets.sample import Expression, Sample, referring_sample

DOWNLOAD = (
    "python download_dataset.py -s val of https://github.com/ChenyunWu/PhraseCutDataset; "
    "images also as images.zip and images2.zip of Visual Genome 1.2, "
    "https://homes.cs.washington.edu/~ranjay/visualgenome/api.html"
)

# Images with phrases, and phrases, of each refer_*.json. The 2,971 images and 20,316 phrases that
# PhraseCut's table calls validation are those of val and miniv together.
_PUBLISHED = {
    "train": (71_746, 310_816),
    "val": (2_871, 19_495),
    "miniv": (100, 821),
    "test": (2_545, 14_354),
}


class _Info(NamedTuple):
    """An image in image_data_split.json; its polygons are in pixels of this width and height."""

    width: int
    height: int
    coco_id: int | None


# Published files of Visual Genome that were annotated at another size (CLIPSeg's list).
_OTHER_SIZES = {
    61530, 61564, 150333, 150344, 150417, 150516, 285665, 285743, 285761, 285814, 286065, 286093,
    498010, 498042, 498187, 498246, 498269,
}  # fmt: skip


class PhraseCut(RegionDataset):
    """A sample for each image, with its phrases and a mask for the region of each phrase.

    The region of a phrase is the union of all its instances. Mask and text have the id of their
    task. `tags["coco_id"]` is the image's id in COCO, or None.
    """

    name = PhraseCutOptions.dataset
    _download: ClassVar[str] = DOWNLOAD
    _also: ClassVar[tuple[str, ...]] = ()  # further files in root

    def __init__(
        self,
        root: str | Path,
        split: str = PhraseCutOptions.default_split,
        *,
        allow_missing: bool = False,
        **options: Any,
    ) -> None:
        """Open a split, or several joined.

        root: folder of `refer_*.json` and `image_data_split.json`.
        split: train, val, miniv or test, or several joined by "_". The official validation set is
        `val_miniv`: `refer_val.json` lacks the 100 images of miniv.
        allow_missing: report an image whose file is missing when it is read, not now.
        options: fields of `PhraseCutOptions`.

        Raises DataError: unknown split, bad option, missing or damaged files.
        """
        chosen = PhraseCutOptions(**options)
        self.split = split
        root, home = Path(root), Path(chosen.images or root)
        parts = list(dict.fromkeys(split.split("_")))
        for part in parts:
            check_split(self.name, part, tuple(_PUBLISHED))
        needs = {f"refer_{part}.json": [root / f"refer_{part}.json"] for part in parts}
        needs["image_data_split.json"] = [root / "image_data_split.json"]
        # The official README's name.
        needs["image_data_split.json"].append(root / "image_data_split3000.json")
        needs |= {name: [root / name] for name in self._also}
        needs["images"] = _image_folders(home, chosen.images is not None)
        found = find_needed(self.name, root, needs, self._download)
        self.annotations = annotation_files(found)

        tasks = self._index([found[f"refer_{part}.json"][0] for part in parts])
        wanted = tasks.image_ids()
        self._tasks: RecordTable = tasks.table()
        self._infos = _read_infos(found["image_data_split.json"][0], set(wanted))
        self._check(wanted, parts)
        known = [number for number in wanted if number in self._infos]
        names = [(f"{number}.jpg",) for number in known]
        photos = locate(self.name, "images", names, found["images"], self._download, allow_missing)
        super().__init__([str(number) for number in known], photos)

    def _check(self, wanted: Sequence[int], parts: Sequence[str]) -> None:
        unknown = [number for number in wanted if number not in self._infos]
        if unknown:
            warnings.warn(
                f"{self.name}: {len(unknown):,} of {len(wanted):,} images with phrases are not in "
                f"image_data_split.json, for example {unknown[0]}; they are left out",
                DataWarning,
                stacklevel=3,
            )
        counts = {"images": len(wanted), "phrases": len(self._tasks.images)}
        images, phrases = (sum(_PUBLISHED[part][i] for part in parts) for i in (0, 1))
        check_counts(f"{self.name} {self.split}", counts, {"images": images, "phrases": phrases})

    def _index(self, files: Sequence[Path]) -> TableBuilder:
        builder, seen = TableBuilder(), set()
        twice = uneven = 0
        for file in files:
            for record in scan(file):
                task = _checked(record.value, file)
                twice += task["task_id"] in seen
                uneven += _length(task["Polygons"]) != _length(task["instance_boxes"])
                if task["task_id"] not in seen:
                    seen.add(task["task_id"])
                    builder.add(task["image_id"], record)
        if twice or uneven:
            warnings.warn(
                f"{self.name}: {twice:,} tasks occur twice and are left out, {uneven:,} have "
                "different numbers of regions and boxes; expected none of either: fetch "
                "refer_*.json again",
                DataWarning,
                stacklevel=4,
            )
        return builder

    def _load(self, row: int) -> Sample:
        number = int(self._ids[row])
        info = self._infos[number]
        size = (info.width, info.height)
        tasks = self._tasks.of_image(number)
        masks = {}
        for task in tasks:
            with within(f"{self._tasks.name}, task {task['task_id']}", DataError):
                masks[task["task_id"]] = phrase_mask(task["Polygons"], size)
        return referring_sample(
            self._ids[row],
            read_photo(self._photos[row], size, any_proportions=number in _OTHER_SIZES),
            masks,
            [Expression(task["task_id"], task["phrase"], task["task_id"]) for task in tasks],
            {"coco_id": info.coco_id},
        )


def phrase_mask(polygons: Any, size: tuple[int, int]) -> np.ndarray:
    """Draw the region of a phrase as the official tools do: the union of all its polygons.

    polygons: `polygons[instance][polygon][point] = [x, y]` in pixels. Coordinates are truncated to
    integers, outline and inside are filled, polygons of one point are ignored, and there are no
    holes.
    size: (W, H). Returns bool [H, W].

    Raises DataError: another nesting.
    """
    canvas = Image.new("L", size)
    pen = ImageDraw.Draw(canvas)
    try:
        for points in (polygon for instance in polygons for polygon in instance):
            drawn = [(int(x), int(y)) for x, y in points]
            if len(drawn) >= 2:
                pen.polygon(drawn, outline=1, fill=1)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(
            "expected Polygons[instance][polygon][point] = [x, y]; found Polygons like "
            f"{str(polygons)[:60]}: fetch refer_*.json again"
        ) from error
    return np.asarray(canvas) > 0


def _image_folders(home: Path, may_be_flat: bool) -> list[Path]:
    names = ["images", "VG_100K", "VG_100K_2", "images/VG_100K", "images/VG_100K_2"]
    return [home / name for name in names] + ([home] if may_be_flat else [])


def _length(value: Any) -> int | None:
    return len(value) if isinstance(value, list) else None


def _checked(task: Any, file: Path) -> dict[str, Any]:
    keys = {"task_id", "image_id", "phrase", "Polygons", "instance_boxes"}
    if not isinstance(task, dict) or not keys <= task.keys():
        found = ", ".join(task) if isinstance(task, dict) else type(task).__name__
        raise DataError(
            f"{file}: expected tasks with {', '.join(sorted(keys))}; found {found or 'nothing'}: "
            "give refer_*.json, which holds the regions (refer_input_*.json does not)"
        )
    for key, kind in (("task_id", str), ("phrase", str), ("image_id", int)):
        if not isinstance(task[key], kind):
            raise DataError(
                f"{file}, task {task['task_id']}: expected {key} to be {kind.__name__}, found "
                f"{str(task[key])[:40]!r}: fetch it again"
            )
    return task


def _read_infos(file: Path, wanted: Container[int]) -> dict[int, _Info]:
    infos = {}
    for record in scan(file):
        image = record.value
        try:
            if image["image_id"] in wanted:
                place = f"{file}, image {image['image_id']}"
                size = whole_size(image["width"], image["height"], place)
                infos[image["image_id"]] = _Info(*size, image.get("coco_id"))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{file}: expected images with image_id, width and height, found "
                f"{str(image)[:60]}: fetch it again"
            ) from error
    return infos
