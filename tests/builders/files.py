"""Files that all formats have: photos, JSON, polygons, masks as COCO writes them."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from PIL import Image
from pycocotools import mask as coco_mask

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
