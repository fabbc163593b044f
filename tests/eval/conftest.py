"""Tiny datasets in the formats of the real ones, with the traps that those have.

Use the fixture `build`: `build.phrasecut()` writes one and returns the folder to open.
"""

from __future__ import annotations

import csv
import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as coco_mask
from scipy.io import savemat

ORIENTATION = 0x0112  # EXIF tag


def photo(path: Path, size: tuple[int, int], mode: str = "RGB", turn: int | None = None) -> None:
    """A JPEG of noise, grey if mode is L; turn: EXIF orientation."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = (size[1], size[0], 3) if mode == "RGB" else (size[1], size[0])
    pixels = np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)
    exif = Image.Exif()
    if turn is not None:
        exif[ORIENTATION] = turn
    Image.fromarray(pixels).save(path, exif=exif)


def write(path: Path, content: Any) -> None:
    """Write JSON, or text as it is."""
    path.parent.mkdir(parents=True, exist_ok=True)
    text = content if isinstance(content, str) else json.dumps(content)
    path.write_text(text, encoding="utf-8")


def rectangle(x0: int, y0: int, x1: int, y1: int) -> list[list[float]]:
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def flat(points: list[list[float]]) -> list[float]:
    return [number for point in points for number in point]


class Python2Pickler(pickle._Pickler):
    """Writes texts as Python 2 wrote its plain strings: as bytes."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_str(self, text: str) -> None:
        data = text.encode("latin1")
        self.write(pickle.SHORT_BINSTRING + bytes([len(data)]) + data)
        self.memoize(text)

    dispatch[str] = save_str


# -- PhraseCut ------------------------------------------------------------------------------------


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


# -- COCO and RefCOCO -----------------------------------------------------------------------------


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


def run_lengths(mask: np.ndarray) -> dict:
    """Uncompressed: column by column, the first run outside."""
    runs, last = [0], False
    for value in mask.flatten(order="F").tolist():
        if value != last:
            runs.append(0)
            last = value
        runs[-1] += 1
    return {"size": list(mask.shape), "counts": runs}


def compressed(mask: np.ndarray) -> dict:
    code = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": [int(n) for n in code["size"]], "counts": code["counts"].decode()}


def block(height: int, width: int, top: int, left: int, bottom: int, right: int) -> np.ndarray:
    mask = np.zeros((height, width), bool)
    mask[top:bottom, left:right] = True
    return mask


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


# -- Pascal ---------------------------------------------------------------------------------------

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


# -- Open Images ----------------------------------------------------------------------------------

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


class Builder:
    """Writes each dataset into a folder of its own; has the parts to write others, too."""

    tasks, annotations, refs, open_masks = TASKS, ANNOTATIONS, REFS, OPEN_MASKS
    task, annotation, ref = staticmethod(task), staticmethod(annotation), staticmethod(ref)
    block, rectangle, flat = staticmethod(block), staticmethod(rectangle), staticmethod(flat)
    compressed, run_lengths = staticmethod(compressed), staticmethod(run_lengths)
    photo, write, save_palette = (
        staticmethod(photo),
        staticmethod(write),
        staticmethod(save_palette),
    )
    voc_numbers, context_numbers = staticmethod(voc_numbers), staticmethod(context_numbers)

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _root(self, name: str) -> Path:
        (self._folder / name).mkdir(exist_ok=True)
        return self._folder / name

    def phrasecut(self, **options: Any) -> Path:
        return phrasecut(self._root("phrasecut"), **options)

    def coco(self, **options: Any) -> Path:
        return coco(self._root("coco"), **options)

    def refcoco(self, **options: Any) -> Path:
        return refcoco(self._root("refcoco_data"), **options)

    def voc(self, **options: Any) -> Path:
        return voc(self._root("voc"), **options)

    def context(self, form: str, classes: dict[int, str]) -> Path:
        root = self._root(f"context_{form}")
        return detail(root, classes) if form == "detail" else context(root, form, list(classes))

    def openimages(self, **options: Any) -> Path:
        return openimages(self._root("openimages"), **options)


@pytest.fixture
def build(tmp_path: Path) -> Builder:
    return Builder(tmp_path)


# -- Segment Anything -----------------------------------------------------------------------------


@pytest.fixture(scope="session")
def tiny_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random SAM of 64 x 64 pixels and its processor."""
    import torch
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    small: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {"image_size": 64, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1]}
    config = SamConfig(
        vision_config=small | vision | {"output_channels": 16, "num_pos_feats": 8},
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8},
        mask_decoder_config=small | {"mlp_dim": 32},
    )
    model = SamModel(config)
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():  # its own initial values make all boxes' masks alike
        torch.nn.init.normal_(weight, std=0.3, generator=generator)
    square = {"height": 64, "width": 64}
    folder = tmp_path_factory.mktemp("sam")
    model.save_pretrained(folder)
    SamProcessor(SamImageProcessor(size={"longest_edge": 64}, pad_size=square)).save_pretrained(
        folder
    )
    return folder
