"""Regions in a manifest: a mask file, run-length code, polygons, a box or points."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np

from prefix_models.checks import Described, check_value
from prefix_models.errors import within
from regionlm.errors import InputError
from regionlm.inputs.coco_masks import polygon_mask, rle_mask
from regionlm.inputs.masks import Region, box_region, read_regions
from regionlm.inputs.points import Point, check_points, points_name, read_points

FindMask: TypeAlias = Callable[[Sequence[Point]], np.ndarray]
"""From points of an image to the mask that they mark, bool [H, W]; see `regionlm.points`."""
FilePath = Annotated[str, Described("the path of a file", fits=len)]
"""Of an image or mask in a line."""
Several = Annotated[list, Described("a list of at least one", fits=len)]
_WRITTEN: dict[str, Any] = {
    "mask": FilePath,
    "rle": Annotated[
        dict,
        Described(
            '{"size": [height, width], "counts": ...}', lambda rle: {*rle} == {"size", "counts"}
        ),
    ],
    "polygon": Annotated[list, Described("[[x0, y0, x1, y1, x2, y2, ...], ...]", fits=len)],
    "box": Annotated[list[float], Described("[x0, y0, x1, y1]", lambda box: len(box) == 4)],
    "points": Annotated[list, Described("[[x, y], [x, y, 0], ...]", fits=len)],
}
FORMS = tuple(_WRITTEN)
_ID = Annotated[str | int, Described("text or a whole number", lambda name: name != "")]
_Corners = Annotated[
    list[float], Described("[x0, y0, x1, y1, x2, y2, ...] in pixels, finite numbers")
]


def check_region(region: Any) -> None:
    """Check the form of a region, without its image or any file.

    Raises InputError: not an object with exactly one of FORMS and optionally an id.
    """
    form = form_of(region)
    value = region[form]
    check_value(form, value, _WRITTEN[form], InputError)
    if form == "points":
        check_points(value)


def form_of(region: Any) -> str:
    """The one of FORMS that a region has; its id is checked, too. Raises as `check_region`."""
    if not isinstance(region, dict):
        raise InputError(
            'a region is an object such as {"box": [x0, y0, x1, y1]}, {"mask": "m.png"}, {"rle":'
            ' ...}, {"polygon": [[x0, y0, ...], ...]} or {"points": [[x, y], ...]}; found'
            f" {_short(region)}"
        )
    unknown = [key for key in region if key not in (*FORMS, "id")]
    if unknown:
        raise InputError(
            f"unknown key {unknown[0]!r} of a region; expected one of {', '.join(FORMS)}, and id"
        )
    found = [key for key in region if key != "id"]
    if len(found) != 1:
        raise InputError(
            f"a region has exactly one of {', '.join(FORMS)}; found {' and '.join(found) or 'none'}"
        )
    if "id" in region:
        check_id(region["id"])
    return found[0]


def check_id(value: Any) -> None:
    """Raise InputError unless an id is text or a whole number."""
    check_value("id", value, _ID, InputError)


def name_of(region: dict[str, Any], position: int) -> str:
    """The name of a region in the output: its id, or else a description.

    region: of a checked form. position: in its line, from 0.
    """
    if "id" in region:
        return str(region["id"])
    if "mask" in region:
        return region["mask"]
    if "box" in region:
        return "box " + ",".join(f"{value:g}" for value in region["box"])
    if "points" in region:
        return points_name(check_points(region["points"]))
    return f"{next(iter(region))} {position}"


def read_region(
    region: dict[str, Any],
    position: int,
    folder: Path,
    image_size: tuple[int, int],
    find_mask: FindMask | None = None,
) -> list[Region]:
    """Read a region; a mask file of several labels gives several, named "name#label".

    region: of a checked form. position: in its line, from 0. folder: base of relative paths.
    image_size: (W, H), pixels. find_mask: of this image; None where points can't be used.

    Raises InputError: a file, code, polygon, box or point that can't be used for this image, or
    that covers none of its pixels.
    """
    name = name_of(region, position)
    if "mask" in region:
        path = str(folder / region["mask"])
        found = read_regions(path, image_size)
        return [replace(one, name=name + one.name.removeprefix(path)) for one in found]
    if "box" in region:
        return [Region(name, box_region(region["box"], image_size).mask)]
    with within(f"region {name}"):
        if "points" in region:
            mask = _marked(region["points"], image_size, find_mask)
        else:
            mask = _draw(region, image_size)
    if not mask.any():
        raise InputError(f"region {name}: it covers no pixel")
    return [Region(name, mask)]


def _marked(points: Any, size: tuple[int, int], find_mask: FindMask | None) -> np.ndarray:
    if find_mask is None:
        raise InputError("points can't be used here; give a box or a mask")
    return find_mask(read_points(points, size))


def _draw(region: dict[str, Any], size: tuple[int, int]) -> np.ndarray:
    if "rle" in region:
        return rle_mask(region["rle"], size)
    polygons = region["polygon"]
    if not isinstance(polygons[0], list):
        polygons = [polygons]
    for polygon in polygons:
        _check_polygon(polygon, size)
    return polygon_mask(polygons, size)


def _check_polygon(polygon: Any, size: tuple[int, int]) -> None:
    expected = "polygon: expected [x0, y0, x1, y1, x2, y2, ...] in pixels"
    check_value("polygon", polygon, _Corners, InputError)
    if len(polygon) < 6 or len(polygon) % 2:
        raise InputError(f"{expected}, three points or more; found {len(polygon)} numbers")
    # Annotation tools put corners up to a pixel outside; further means another scale or image.
    for values, length in ((polygon[::2], size[0]), (polygon[1::2], size[1])):
        if min(values) < -1 or max(values) > length + 1:
            raise InputError(
                f"{expected} of the image, which is {size[0]} x {size[1]}; found one that reaches"
                f" from {min(values):g} to {max(values):g} where 0 to {length} is inside"
            )


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
