"""From the text of a request to images, regions and options."""

from __future__ import annotations

import reprlib
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from regionlm.extras import extra
from regionlm.inputs.encoded_files import file_bytes
from regionlm.inputs.masks import Region, regions_of_bytes
from regionlm.inputs.regions import check_region, form_of, read_region
from regionlm.points.segmenter import Segmenter
from regionlm.serve.errors import MalformedError, UnusableError
from regionlm.serve.option_models import Form

with extra("serve"):
    from pydantic import ValidationError
    from pydantic_core import from_json

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

    from regionlm.inputs.views import ImageView
    from regionlm.tools.bounds import Bounds

AnyForm = TypeVar("AnyForm", bound=Form)

_NOTHING = object()  # where a value is missing


def parse(form: type[AnyForm], body: bytes) -> AnyForm:
    """A request's JSON as its form.

    Raises:
        MalformedError: not JSON. UnusableError: JSON of another form; names the part.
    """
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        if first["type"] == "json_invalid":
            raise MalformedError(first["msg"]) from None
        raise refusal(error, from_json(body)) from None


def refusal(error: ValidationError, given: Any) -> UnusableError:
    """What is wrong with a request, in one line. given: its JSON."""
    errors = error.errors(include_url=False, include_context=False, include_input=False)
    places = [_place(one, given) for one in errors]
    place, kind, found = places[0]
    here = [one for one, (at, _, _) in zip(errors, places, strict=True) if at == place]
    telling = [one for one in here if not one["type"].endswith(("_type", "missing"))]
    if kind and not telling:
        kinds = dict.fromkeys(str(read_as) for at, read_as, _ in places if at == place)
        wrong = f"expected {' or '.join(kinds)}"
    else:
        wrong = _wrong((telling or here)[0])
    if wrong.startswith("expected"):
        wrong += f", found {'none' if found is _NOTHING else reprlib.repr(found)}"
    return UnusableError(f"{place or 'the body'}: {wrong}", param=place or None)


def _place(error: ErrorDetails, given: Any) -> tuple[str, str | None, Any]:
    """Where an error is; which of several kinds the value was read as there, None if it may be of
    one only; and the value.

    pydantic puts such a kind among the names of the place.
    """
    names: list[str] = []
    for step in error["loc"]:
        if _has(given, step):
            given = given[step]
        elif error["type"] == "missing" and isinstance(given, dict):
            given = _NOTHING
        else:
            return ".".join(names), str(step).replace("constrained-", ""), given
        names.append(str(step))
    return ".".join(names), None, given


def _has(given: Any, step: str | int) -> bool:
    if isinstance(given, dict):
        return step in given
    return isinstance(given, list) and isinstance(step, int) and step < len(given)


def _wrong(error: ErrorDetails) -> str:
    if error["type"] == "missing":
        return "expected a value"
    if error["type"] == "extra_forbidden":
        return "no such name; /docs has those that there are"
    if error["type"] in ("model_type", "model_attributes_type"):
        return "expected an object"
    return error["msg"].replace("Input should be", "expected")


def given_options(options: Form) -> dict[str, Any]:
    """The options that a request names, as keyword arguments."""
    return options.model_dump(exclude_unset=True)


def read_regions(
    forms: Sequence[dict[str, Any]],
    view: ImageView,
    bounds: Bounds,
    segmenter: Segmenter,
    files: Sequence[tuple[str, bytes]] = (),
) -> list[Region]:
    """The regions of an image. No more masks are made than a request may have.

    Args:
        forms: as in JSON, each with exactly one of box, mask, rle, polygon and points.
        segmenter: finds what points mark.
        files: names and bytes of mask files, whose regions follow.

    Raises:
        InputError: one that can't be used for this image; too many.
    """
    left = len(forms) + len(files)
    bounds.check_regions(left, view.size)
    most, found = bounds.most_regions(view.size), list[Region]()
    for position, form in enumerate(forms):
        left -= 1  # each of those that follow is one region at least
        found += _read(form, position, view, bounds, segmenter, most - len(found) - left)
    for name, data in files:
        left -= 1
        found += _mask_regions(data, name, view, bounds, most - len(found) - left)
    return found


def _mask_regions(
    data: bytes, name: str, view: ImageView, bounds: Bounds, most: int
) -> list[Region]:
    """The regions of a mask file's bytes: one, or one for each label, of which it has `most`."""
    return regions_of_bytes(data, name, view.size, most=bounds.pixels, most_regions=most)


def _read(
    form: dict[str, Any],
    position: int,
    view: ImageView,
    bounds: Bounds,
    segmenter: Segmenter,
    most: int,
) -> list[Region]:
    if form_of(form) == "mask":
        name = str(form.get("id", f"mask {position}"))
        return _mask_regions(file_bytes(form["mask"], name), name, view, bounds, most)
    check_region(form)
    find_mask = partial(segmenter.mask, view.image)
    return read_region(form, position, Path(), view.size, find_mask)
