"""COCO and RefCOCO in small, with the traps that they have."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import Python2Pickler, block, compressed, flat, photo, rectangle, run_lengths, write


def annotation(number: int, image: int, category: int, segmentation: Any, crowd: int = 0) -> dict:
    return {
        "id": number,
        "image_id": image,
        "category_id": category,
        "bbox": [0.0, 0.0, 1.0, 1.0],
        "area": 1.0,
        "iscrowd": crowd,
        "segmentation": segmentation,
    }


# 30 high, 40 wide; ids of categories have gaps. 101: two polygons that overlap; 102: a crowd;
# 103: compressed; 104: a polygon of two points, which is no region.
ANNOTATIONS = [
    annotation(101, 9, 90, [flat(rectangle(2, 2, 12, 12)), flat(rectangle(8, 8, 20, 20))]),
    annotation(102, 9, 1, run_lengths(block(30, 40, 20, 0, 30, 40)), crowd=1),
    annotation(201, 139, 1, [flat(rectangle(0, 0, 10, 10))]),
    annotation(103, 9, 3, compressed(block(30, 40, 5, 25, 15, 35))),
    annotation(104, 9, 3, [[1.0, 1.0, 5.0, 5.0]]),
]
CATEGORIES = [
    {"id": 1, "name": "person", "supercategory": "person"},
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
]


def instances(photos: dict[int, str], annotations: list[dict]) -> dict:
    images = [
        {
            "license": 1,
            "file_name": name,
            "coco_url": f"http://images.cocodataset.org/{name}",
            "height": 30,
            "width": 40,
            "date_captured": "2013-11-14 17:02:52",
            "id": number,
        }
        for number, name in photos.items()
    ]
    return {
        "info": {"year": 2017, "version": "1.0"},
        "licenses": [],
        "images": images,
        "annotations": annotations,
        "categories": CATEGORIES,
    }


def coco(root: Path, split: str = "val2017", annotations: list[dict] = ANNOTATIONS) -> Path:
    """Image 500 has no annotation, 139 has one, 9 has four."""
    photos = {number: f"{number:012d}.jpg" for number in (139, 500, 9)}
    write(root / "annotations" / f"instances_{split}.json", instances(photos, annotations))
    for name in photos.values():
        photo(root / split / name, (40, 30))
    return root


def ref(number: int, ann: int, image: int, split: str, *sentences: tuple[str, str]) -> dict:
    listed = [
        {"sent_id": 10 * number + i, "raw": raw, "sent": sent, "tokens": sent.split()}
        for i, (raw, sent) in enumerate(sentences)
    ]
    return {
        "ref_id": number,
        "ann_id": ann,
        "image_id": image,
        "category_id": 1,
        "file_name": f"COCO_train2014_{image:012d}_{number}.jpg",  # no such file
        "split": split,
        "sent_ids": [sentence["sent_id"] for sentence in listed],
        "sentences": listed,
    }


REFS = [
    ref(
        0, 103, 9, "val", ("LADY w back to us", "lady with back to us"), ("Right one", "right one")
    ),
    ref(1, 201, 139, "testA", ("man", "man")),
    ref(2, 101, 9, "val", ("brush", "brush"), ("?", "")),
    ref(3, 201, 139, "testB", ("not a man", "not a man")),
]


def refcoco(root: Path, name: str = "refcoco", refs: Any = REFS, photos: str = "") -> Path:
    """photos: a folder of 2017 images; by default 2014's, where the official tools have them."""
    named = {number: f"COCO_train2014_{number:012d}.jpg" for number in (139, 9)}
    write(root / name / "instances.json", instances(named, ANNOTATIONS))
    with open(root / name / "refs(unc).p", "wb") as stream:
        Python2Pickler(stream, protocol=2).dump(refs)
    for number, file in named.items():
        folder = photos or "images/mscoco/images/train2014"
        photo(root / folder / (f"{number:012d}.jpg" if photos else file), (40, 30))
    return root
