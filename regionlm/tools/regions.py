"""Regions as an agent gives them."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

import numpy as np

from prefix_models.checks import Checked, Described
from prefix_models.errors import within
from regionlm.errors import InputError
from regionlm.tools.workspace import Workspace

if TYPE_CHECKING:
    from regionlm.inputs.masks import Region
    from regionlm.inputs.views import ImageView

Box = Annotated[
    tuple[float, float, float, float], Described("[x0, y0, x1, y1] in pixels of the image")
]
Points = Annotated[
    list[list[float]], Described("[[x, y], ...] or [[x, y, 0 or 1], ...] in pixels of the image")
]
Polygons = Annotated[
    list[list[float]], Described("[[x0, y0, x1, y1, x2, y2, ...], ...] in pixels of the image")
]
PictureName = Annotated[
    str, Described("a path, a data: URI or the id of an earlier picture", fits=len)
]


@dataclass(frozen=True, kw_only=True)
class GivenRegion(Checked):
    """A region of an image: exactly one of box, points, mask, polygon and rle.

    Args:
        box: [x0, y0, x1, y1] in pixels of the image; x1 and y1 are exclusive, so that
            [0, 0, width, height] is the whole image.
        points: [[x, y], ...] on the thing that is meant, in pixels of the image, and [x, y, 0] on
            what is not; its outline is found by colour, or with a SAM, so look at it with
            show_region.
        mask: A mask file of the image's size, white inside: its path, a data: URI, or the id of a
            mask that find_region found.
        polygon: [[x0, y0, x1, y1, x2, y2, ...], ...] in pixels of the image.
        rle: COCO run-length code, {"size": [height, width], "counts": ...}.
        id: What to call it in the answer.
    """

    error: ClassVar[type[InputError]] = InputError

    box: Box | None = None
    points: Points | None = None
    mask: PictureName | None = None
    polygon: Polygons | None = None
    rle: dict | None = None
    id: str | None = None


def read_regions(given: list[GivenRegion], view: ImageView, space: Workspace) -> list[Region]:
    """The regions of an image.

    Raises InputError: none, too many, or one that can't be used for this image.
    """
    if not given:
        raise InputError('regions: expected at least one, such as {"box": [x0, y0, x1, y1]}')
    space.bounds.check_regions(len(given), view.size)
    found: list[Region] = []
    for one in given:
        space.bounds.check_points(one.points)
    for position, one in enumerate(given):
        with within(f"regions[{position}]") if len(given) > 1 else nullcontext():
            found += _read(one, position, view, space)
        space.bounds.check_regions(len(found), view.size)
    return found


def box_around(mask: np.ndarray) -> list[int]:
    """[x0, y0, x1, y1] of a mask, bool [H, W], not empty; x1 and y1 exclusive."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return [int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1]


def _read(given: GivenRegion, position: int, view: ImageView, space: Workspace) -> list[Region]:
    from regionlm.inputs.regions import check_region, read_region

    written: dict[str, Any] = {name: one for name, one in asdict(given).items() if one is not None}
    if "box" in written:
        written["box"] = list(written["box"])
    check_region(written)
    if given.mask is None:
        return read_region(written, position, Path(), view.size, space.find_mask(view))
    found = space.masks(given.mask, view.size)
    if given.id is None:
        return found
    parts = [one.name.rpartition("#") for one in found]
    labels = [f"#{label}" if mark and len(found) > 1 else "" for _, mark, label in parts]
    return [replace(one, name=given.id + label) for one, label in zip(found, labels, strict=True)]
