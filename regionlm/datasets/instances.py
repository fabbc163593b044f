"""COCO's instance annotations, which COCO and RefCOCO share, and their masks."""

from __future__ import annotations

import math
from collections.abc import Container, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from prefix_models.errors import within
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.json_records import RecordTable, TableBuilder, scan, whole_id, whole_size
from regionlm.errors import InputError
from regionlm.inputs.coco_masks import polygon_mask, rle_mask


class Photo(NamedTuple):
    """An image as annotated; width and height in pixels."""

    file_name: str
    width: int
    height: int


@dataclass(frozen=True, eq=False)
class Instances:
    """An opened annotation file.

    photos: images by id, in file order. table: the annotations that are kept. ids: their ids,
    int64 [N], ascending. categories: names by category id, in file order. single, crowd: number of
    annotations of either kind in the file, kept or not.
    """

    photos: dict[int, Photo]
    table: RecordTable
    ids: np.ndarray
    categories: dict[int, str]
    single: int
    crowd: int


def read_instances(
    file: Path, *, include_crowd: bool, images: Container[int] | None = None
) -> Instances:
    """Go through an `instances*.json` once, and keep where its annotations are.

    include_crowd: keep annotations of crowds (iscrowd 1), too. images: ids of the images to keep;
    None keeps all.

    Raises DataError: damaged, a field or list is missing, an id is no number, or an annotation id
    occurs twice.
    """
    photos: dict[int, Photo] = {}
    categories: dict[int, str] = {}
    builder, ids, kinds = TableBuilder(), [], [0, 0]
    try:
        for record in scan(file):
            item = record.value
            if record.key == "categories":
                categories[item["id"]] = item["name"]
            elif record.key == "images" and (images is None or item["id"] in images):
                number = whole_id(item["id"], f"{file}, images: id")
                size = whole_size(item["width"], item["height"], f"{file}, image {number}")
                photos[number] = Photo(item["file_name"], *size)
            elif record.key == "annotations" and (images is None or item["image_id"] in images):
                is_crowd = bool(item.get("iscrowd", 0))
                kinds[is_crowd] += 1
                if include_crowd or not is_crowd:
                    ids.append(whole_id(item["id"], f"{file}, annotations: id"))
                    builder.add(item["image_id"], record)
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{file}: expected COCO's instance annotations (images, annotations, categories); a "
            f"record lacks {error}: fetch it again"
        ) from error
    if not photos or not categories:
        raise DataError(
            f"{file}: expected COCO's instance annotations, found {len(photos)} images and "
            f"{len(categories)} categories: give an instances*.json"
        )
    unique = np.unique(np.array(ids, np.int64))
    if len(unique) != len(ids):
        raise DataError(
            f"{file}: {len(ids) - len(unique):,} annotation ids occur twice, each is expected "
            "once: fetch it again"
        )
    return Instances(photos, builder.table(), unique, categories, *kinds)


def annotation_masks(
    annotations: Sequence[dict[str, Any]], photo: Photo, file: str
) -> dict[str, np.ndarray]:
    """Draw the annotations of an image: masks, bool [H, W] of the annotated size, by id.

    file: name of their file, for messages. Raises DataError: a segmentation is missing or damaged.
    """
    masks = {}
    for annotation in annotations:
        with within(f"{file}, annotation {annotation['id']}", DataError):
            segmentation = annotation.get("segmentation")
            size = (photo.width, photo.height)
            masks[str(annotation["id"])] = segmentation_mask(segmentation, size)
    return masks


def segmentation_mask(segmentation: Any, size: tuple[int, int]) -> np.ndarray:
    """Draw COCO's `segmentation` field.

    segmentation: a list of polygons `[x0, y0, x1, y1, ...]` in pixels, whose union is the mask
    (polygons of fewer than three points are ignored); or a run-length code
    `{"size": [h, w], "counts": ...}`, column by column, starting outside, with counts as a list of
    integers or as compressed text.
    size: (W, H). Returns bool [H, W].

    Raises DataError: another format or size.
    """
    width, height = size
    if isinstance(segmentation, list) and all(map(_is_polygon, segmentation)):
        # pycocotools reads 4 numbers as a box and fails on fewer.
        polygons = [polygon for polygon in segmentation if len(polygon) >= 6]
        if not polygons:
            return np.zeros((height, width), bool)
        return polygon_mask(polygons, size)
    if not isinstance(segmentation, dict) or not {"size", "counts"} <= segmentation.keys():
        raise DataError(
            "expected a segmentation of polygons or of a run-length code, found "
            f"{str(segmentation)[:60]}: fetch the annotations again"
        )
    try:
        return rle_mask(segmentation, size)
    except InputError as error:
        raise DataError(f"{error}: fetch the annotations again") from error


def _is_polygon(value: Any) -> bool:
    if not isinstance(value, list) or len(value) % 2:
        return False
    try:
        return all(type(number) in (int, float) and math.isfinite(number) for number in value)
    except OverflowError:  # a whole number too large for a float
        return False
