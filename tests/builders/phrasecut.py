"""PhraseCut in small, with the traps that it has."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .files import photo, rectangle, write


def task(image: int, number: int, phrase: str, polygons: Any, boxes: int | None = None) -> dict:
    instances = len(polygons) if boxes is None else boxes
    return {
        "task_id": f"{image}__{number}",
        "image_id": image,
        "ann_ids": [number, number + 1, number + 2],  # any length: not that of the instances
        "instance_boxes": [[1.5, 2.5, 3.25, 4.0]] * instances,
        "Polygons": polygons,
        "phrase": phrase,
        "phrase_structure": {
            "name": phrase.split()[-1] if phrase.split() else "",
            "attributes": [],
            "relation_ids": [],
            "relation_descriptions": [],
            "type": "name",
        },
    }


# Image 1: two instances, of two polygons and one; floats, and points outside the image; the same
# phrase twice; odd characters; a polygon of one point, which is no region. 2: a grey JPEG. 3: the
# file is twice as large as its entry says. 4 is in miniv. 5 has no phrase.
TASKS = {
    "val": [
        task(1, 10, "seated hill", [[rectangle(2, 3, 9, 8), rectangle(12, 3, 15, 8)],
                                    [[[20.9, 10.9], [30.2, 11.7], [25.5, 99.5]]]]),
        task(2, 20, 'the "red" [sign]', [[rectangle(0, 0, 11, 17)]]),
        task(1, 11, "seated hill", [[rectangle(0, 20, 39, 29)]]),
        task(1, 12, "caf\u00e9 \u0000 table", [[rectangle(5, 5, 6, 6)]]),
        task(1, 13, "lost dog", [[[[7.0, 7.0]]]]),
        task(3, 30, "left half", [[rectangle(0, 0, 9, 29)]]),
    ],
    "miniv": [task(4, 40, "white cup", [[rectangle(1, 1, 4, 4)]])],
}  # fmt: skip
SIZES = {1: (40, 30), 2: (24, 36), 3: (20, 30), 4: (16, 16), 5: (16, 16)}


def phrasecut(
    root: Path,
    tasks: dict[str, list] = TASKS,
    folders: dict[int, str] | None = None,
    info: str = "image_data_split.json",
) -> Path:
    """folders: where each image lies, "images" by default."""
    for split, records in tasks.items():
        write(root / f"refer_{split}.json", records)
    infos = [
        {
            "image_id": number,
            "width": size[0],
            "height": size[1],
            "url": f"https://cs.stanford.edu/people/rak248/VG_100K_2/{number}.jpg",
            "split": "miniv" if number == 4 else "val",
            "coco_id": 77 if number == 2 else None,
            "flickr_id": None,
        }
        for number, size in SIZES.items()
    ]
    write(root / info, infos)
    for number, (width, height) in SIZES.items():
        scale = 2 if number == 3 else 1
        folder = (folders or {}).get(number, "images")
        mode = "L" if number == 2 else "RGB"
        photo(root / folder / f"{number}.jpg", (scale * width, scale * height), mode)
    return root
