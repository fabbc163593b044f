"""From the text of a request to images, regions and options."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from regionlm.extras import extra
from regionlm.inputs.encoded_files import file_bytes
from regionlm.inputs.masks import Region, regions_of_bytes
from regionlm.inputs.regions import check_region, read_region
from regionlm.points.segmenter import Segmenter
from regionlm.serve.errors import MalformedError, UnusableError
from regionlm.serve.option_models import Form

with extra("serve"):
    from pydantic import ValidationError

if TYPE_CHECKING:
    from regionlm.inputs.views import ImageView
    from regionlm.tools.bounds import Bounds

AnyForm = TypeVar("AnyForm", bound=Form)


def parse(form: type[AnyForm], body: bytes) -> AnyForm:
    """A request's JSON as its form.

    Raises:
        MalformedError: not JSON. UnusableError: JSON of another form; names the part.
    """
    try:
        return form.model_validate_json(body)
    except ValidationError as error:
        raise refusal(error) from None


def refusal(error: ValidationError) -> MalformedError | UnusableError:
    """What is wrong with a request, in one line."""
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    if first["type"] == "json_invalid":
        return MalformedError(first["msg"])
    place = ".".join(map(str, first["loc"]))
    return UnusableError(f"{place}: {first['msg']}", param=place or None)


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
    if "mask" in form and isinstance(form["mask"], str):
        name = str(form.get("id", f"mask {position}"))
        return _mask_regions(file_bytes(form["mask"], name), name, view, bounds, most)
    check_region(form)
    find_mask = partial(segmenter.mask, view.image)
    return read_region(form, position, Path(), view.size, find_mask)
