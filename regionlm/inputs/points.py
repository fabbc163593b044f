"""Points that mark a region: inside it, or outside. What they mark is found in regionlm.points."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from prefix_models.checks import is_number
from regionlm.errors import InputError

_EXPECTED = "expected [[x, y], [x, y, 0], ...] in pixels, 0 for a point outside the region"


class Point(NamedTuple):
    """A place in an image, pixels, fractional, origin at the top left corner."""

    x: float
    y: float
    is_inside: bool = True
    """Of the region; False: the region leaves it out."""


def check_points(points: Any) -> list[Point]:
    """Points as they are written in JSON, without their image.

    points: [[x, y], [x, y, label], ...], label 1 inside, the default, or 0 outside; at least one
    inside.

    Raises InputError: anything else.
    """
    if not isinstance(points, list | tuple) or not points:
        raise InputError(f"points: {_EXPECTED}; found {_short(points)}")
    found = [_point(one) for one in points]
    if not any(point.is_inside for point in found):
        raise InputError("points: expected at least one inside the region; all have the label 0")
    return found


def read_points(points: Any, image_size: tuple[int, int]) -> list[Point]:
    """Like `check_points`, for an image of size (W, H). Also raises for a point outside of it."""
    found = check_points(points)
    width, height = image_size
    for x, y, _ in found:
        if not (0 <= x < width and 0 <= y < height):
            raise InputError(
                f"points: {x:g},{y:g} is outside the image, which is {width} x {height} pixels:"
                f" expected 0 <= x < {width} and 0 <= y < {height}"
            )
    return found


def parse_points(text: str) -> list[list[float]]:
    """Points of one region as on the command line: "x,y", "x,y:x,y,0".

    Returns what `check_points` takes. Raises InputError.
    """
    words = [point.split(",") for point in text.split(":")]
    try:
        if any(len(point) not in (2, 3) for point in words):
            raise ValueError
        found = [[float(value) for value in point] for point in words]
    except ValueError as error:
        raise InputError(
            f"points {text!r}: expected x,y in pixels, several joined with colons, ,0 added to one"
            " that the region leaves out: 120,80:140,95:30,30,0"
        ) from error
    check_points(found)
    return found


def points_name(points: Sequence[Point]) -> str:
    """How output calls a region marked by points: "points 120,80:30,30,0"."""
    return "points " + ":".join(
        f"{x:g},{y:g}" + ("" if is_inside else ",0") for x, y, is_inside in points
    )


def _point(one: Any) -> Point:
    is_list = isinstance(one, list | tuple) and len(one) in (2, 3)
    if not is_list or not all(is_number(value) and abs(value) < 1e9 for value in one):
        raise InputError(f"points: {_EXPECTED}; found the point {_short(one)}")
    if one[2:] and one[2] not in (0, 1):
        raise InputError(f"points: expected the label 1, inside, or 0, outside; found {one[2]:g}")
    return Point(float(one[0]), float(one[1]), not one[2:] or one[2] == 1)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
