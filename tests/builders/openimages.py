"""Open Images in small, with the traps that it has."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

from .files import photo, write

OPEN_HEADER = "MaskPath,ImageID,LabelName,BoxID,BoxXMin,BoxXMax,BoxYMin,BoxYMax,PredictedIoU,Clicks"
# An id like a number with an exponent, one of digits only, and a usual one; their shards differ.
OPEN_MASKS = [
    ("1230000000000e45", "/m/04yx4", "9a041d52"),
    ("0000000000000456", "/m/01g317", "00000001"),
    ("1230000000000e45", "/m/01g317", "9a041d53"),
    ("a77c122b0eaa5d16", "/m/04yx4", "9a041d54"),
]


def open_mask_name(image: str, mid: str, box: str) -> str:
    return f"{image}_{mid.replace('/m/', 'm')}_{box}.png"


def openimages(
    root: Path,
    split: str = "validation",
    folder: str = "{split}-masks/{letter}",
    masks: list[tuple[str, str, str]] = OPEN_MASKS,
    names: str = "class-descriptions-boxable.csv",
    classes: str = "classes-segmentation.txt",
    size: tuple[int, int] = (80, 60),
) -> Path:
    """Images are 40 x 30; masks of `size`: the left half of it, of odd ones the top half."""
    write(root / classes, "/m/04yx4\n/m/01g317\n")
    header = "" if "boxable" in names else "LabelName,DisplayName\n"
    write(root / names, f'{header}/m/011k07,Tortoise\n/m/01g317,Person\n/m/04yx4,"Man, tall"\n')
    with open(root / f"{split}-annotations-object-segmentation.csv", "w", newline="") as stream:
        stream.write(OPEN_HEADER + "\r\n")
        rows = csv.writer(stream)
        for image, mid, box in masks:
            name = open_mask_name(image, mid, box)
            rows.writerow([name, image, mid, box, 0.1, 0.5, 0.2, 0.6, "", "0.3 0.4 1;0.9 0.9 0"])
    for i, (image, mid, box) in enumerate(masks):
        photo(root / split / f"{image}.jpg", (40, 30))
        values = np.zeros(size[::-1], bool)
        values[slice(None) if i % 2 == 0 else slice(size[1] // 2), : size[0] // (2 - i % 2)] = True
        place = root / folder.format(split=split, letter=image[0], capital=image[0].upper())
        place.mkdir(parents=True, exist_ok=True)
        # 1-bit, and 0/255 in grey and colour: no source says which one the files are.
        picture = Image.fromarray(values).convert(("1", "L", "RGB")[i % 3])
        picture.save(place / open_mask_name(image, mid, box))
    return root
