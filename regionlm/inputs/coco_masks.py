"""Masks in the forms of COCO's annotations: run-length codes and polygons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from regionlm.errors import InputError

_MOST_POLYGONS = 10_000
"""Of a region; merging more takes seconds."""
_LONGEST_OUTLINE = 1_000_000
"""Pixels of a region's edges; pycocotools takes 45 bytes for each and, without memory, crashes."""


def rle_mask(code: Mapping[str, Any], size: tuple[int, int]) -> np.ndarray:
    """Draw a run-length code.

    Not with pycocotools, which leaves pixels uninitialised where a code is too short.

    code: ``{"size": [H, W], "counts": ...}``: lengths of runs, column by column, outside and inside
    in turns, outside first; as a list of integers, or as the text COCO packs them into.
    size: (W, H) of the image, pixels.

    Returns bool [H, W], perhaps without a pixel inside. Raises InputError: another size, or counts
    that are not this image's.
    """
    width, height = size
    if code["size"] != [height, width]:
        raise InputError(
            f"run-length code: expected size [{height}, {width}] (height and width of the image),"
            f" found {str(code['size'])[:40]}"
        )
    counts = code["counts"]
    runs = _unpack(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and run >= 0 for run in runs):
        raise InputError(
            "run-length code: expected counts of whole numbers from 0, or COCO's packed text;"
            f" found {str(counts)[:40]!r}"
        )
    total, area = sum(runs), width * height
    if total != area:
        found = total if total < area else "more"
        raise InputError(
            f"run-length code: expected runs of {area} pixels together, {width} x {height}; found"
            f" {found}: it is damaged, or another image's"
        )
    inside = np.arange(len(runs)) % 2 == 1
    return np.repeat(inside, runs).reshape(width, height).T


def mask_rle(mask: np.ndarray) -> dict[str, list[int]]:
    """The run-length code of a mask, bool [H, W], that `rle_mask` reads; counts as a list."""
    values = mask.T.reshape(-1)
    changes = np.flatnonzero(np.diff(values, prepend=False))
    runs = np.diff(changes, prepend=0, append=len(values))
    return {"size": [*mask.shape], "counts": runs.tolist()}


def polygon_mask(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """Draw the union of polygons by COCO's rule, with pycocotools.

    polygons: at least one, each ``[x0, y0, x1, y1, ...]`` of three points or more, pixels; what
    is outside the image is cut off. size: (W, H) of the image, pixels.

    Returns bool [H, W], perhaps without a pixel inside. Raises InputError: an outline that would
    take too much time and memory.
    """
    from pycocotools import mask as coco_mask

    width, height = size
    if len(polygons) > _MOST_POLYGONS:
        raise InputError(
            f"polygon: expected at most {_MOST_POLYGONS} of a region, found {len(polygons)}; give a"
            " mask or a run-length code"
        )
    length = sum(map(_outline, polygons))
    if length > _LONGEST_OUTLINE:
        raise InputError(
            f"polygon: expected an outline of at most {_LONGEST_OUTLINE} pixels, found"
            f" {length:.0f}; leave out corners, or give a mask or a run-length code"
        )
    code = coco_mask.merge(coco_mask.frPyObjects([list(p) for p in polygons], height, width))
    return coco_mask.decode(code) > 0


def _outline(polygon: Sequence[float]) -> float:
    """Pixels that a closed polygon's edges pass, each of them at least one."""
    corners = np.asarray(polygon[: len(polygon) // 2 * 2], dtype=float).reshape(-1, 2)
    edges = np.abs(corners - np.roll(corners, 1, axis=0)).max(axis=1)
    return float((edges + 1).sum())


def _unpack(text: str) -> list[int]:
    """Read runs from text: six bits a character, five of value and one that says "more follows".

    From the fourth run on, each is written as the difference from the last but one.
    """
    runs: list[int] = []
    value = shift = 0
    for character in text:
        bits = ord(character) - 48
        if not 0 <= bits < 64 or shift > 60:
            raise InputError(
                f"run-length code: expected COCO's packed text, found a misplaced {character!r}"
            )
        value |= (bits & 31) << shift
        shift += 5
        if bits & 32:
            continue
        if bits & 16:
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        value = shift = 0
    if shift:
        raise InputError("run-length code: expected COCO's packed text, found it cut off")
    return runs
