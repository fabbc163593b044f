"""Pascal VOC and Pascal Context in small, Context in each of its forms."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image
from scipy.io import savemat

from .files import block, compressed, photo, write

PALETTE = [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0] + 252 * [224, 224, 192]


def save_palette(path: Path, numbers: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(numbers.astype(np.uint8), mode="P")
    picture.putpalette(PALETTE)
    picture.save(path)


def voc_numbers() -> np.ndarray:
    """Aeroplane (1), dining table (11), void (255) between them; 24 high, 32 wide."""
    numbers = np.zeros((24, 32), int)
    numbers[2:10, 3:20], numbers[10:12, 3:20], numbers[12:20, 3:30] = 1, 255, 11
    return numbers


def voc(root: Path, numbers: np.ndarray | None = None) -> Path:
    home = root / "VOCdevkit" / "VOC2012"
    numbers = voc_numbers() if numbers is None else numbers
    write(home / "ImageSets/Segmentation/val.txt", "2007_000033 \r\n2007_000042\n\n")
    for image_id in ("2007_000033", "2007_000042"):
        photo(home / "JPEGImages" / f"{image_id}.jpg", (32, 24))
        save_palette(home / "SegmentationClass" / f"{image_id}.png", numbers)
    return root


def context_numbers() -> np.ndarray:
    """Original numbers: bed (18), pottedplant (308), wood (458), and 7, which is none of the 59."""
    numbers = np.zeros((24, 32), int)
    numbers[0:8, 0:16], numbers[8:16, 0:16], numbers[16:24, 0:16] = 18, 308, 458
    numbers[0:24, 24:32] = 7
    return numbers


CONTEXT_IDS = {"val": "2008_000512", "train": "2008_000019"}


def context(root: Path, form: str, class_numbers: list[int]) -> Path:
    """class_numbers: the 59 original ones, ascending."""
    home, numbers = root / "VOCdevkit" / "VOC2010", context_numbers()
    for split, image_id in CONTEXT_IDS.items():
        photo(home / "JPEGImages" / f"{image_id}.jpg", (32, 24))
        folder = "SegmentationContext" if form == "png" else "Main"
        if form != "detail":
            write(home / "ImageSets" / folder / f"{split}.txt", image_id + "\n")
        if form == "mat":
            (root / "trainval").mkdir(exist_ok=True)
            savemat(root / "trainval" / f"{image_id}.mat", {"LabelMap": numbers.astype(np.uint16)})
        if form == "png":
            (home / "SegmentationClassContext").mkdir(exist_ok=True)
            places = np.searchsorted(class_numbers, numbers) + 1
            known = np.isin(numbers, class_numbers)
            converted = np.where(known, places, 0).astype(np.uint8)
            Image.fromarray(converted).save(home / "SegmentationClassContext" / f"{image_id}.png")
    return root


def detail(root: Path, categories: dict[int, str]) -> Path:
    """The bed is painted over the whole left half first, and other regions over it."""
    context(root, "detail", [])
    numbers = context_numbers()
    regions = [(18, block(24, 32, 0, 0, 24, 16))]
    regions += [(number, numbers == number) for number in (308, 458, 7)]
    annotations = [
        {
            "id": 100 * k + i,
            "image_id": int(image_id.replace("_", "")),
            "category_id": number,
            "area": int(mask.sum()),
            "bbox": [0, 0, 1, 1],
            "iscrowd": 0,
            "segmentation": compressed(mask),
            "parts": [],
        }
        for k, image_id in enumerate(CONTEXT_IDS.values())
        for i, (number, mask) in enumerate(regions)
    ]
    images = [
        {
            "image_id": int(image_id.replace("_", "")),
            "file_name": f"{image_id}.jpg",
            "width": 32,
            "height": 24,
            "phase": phase,
            "date_captured": "31-12-2010",
        }
        for phase, image_id in CONTEXT_IDS.items()
    ]
    whole = {
        "info": {"description": "PASCAL in Detail"},
        "images": images,
        "annos_segmentation": annotations,
        "annos_occlusion": [],
        "annos_boundary": [],
        "categories": [
            {"category_id": k, "name": v, "supercategory": "object", "onlysemantic": 0}
            for k, v in categories.items()
        ],
        "parts": [],
    }
    write(root / "VOCdevkit" / "VOC2010" / "trainval_merged.json", whole)
    return root
