"""From the text of a request to images, regions and options."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from regionlm.errors import InputError
from regionlm.extras import extra
from regionlm.inputs.masks import Region, regions_of_bytes
from regionlm.inputs.regions import check_region, read_region
from regionlm.points.segmenter import Segmenter
from regionlm.serve.errors import MalformedError, UnusableError
from regionlm.serve.option_models import Form

with extra("serve"):
    from pydantic import ValidationError

if TYPE_CHECKING:
    from regionlm.inputs.views import ImageView
    from regionlm.serve.limits import Limits

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


def file_bytes(text: str, name: str) -> bytes:
    """The bytes of a file that is given as base64 or as a data: URI.

    Raises:
        InputError: neither.
    """
    if text.startswith("data:"):
        head, comma, text = text.partition(",")
        if not comma or not head.endswith(";base64"):
            raise InputError(f"{name}: expected data:image/...;base64,...; found another data: URI")
    try:
        data = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError):
        raise InputError(f"{name}: expected base64, or a data: URI of it") from None
    if not data:
        raise InputError(f"{name}: expected an image file, found nothing")
    return data


def read_regions(
    forms: Sequence[dict[str, Any]], view: ImageView, limits: Limits, segmenter: Segmenter
) -> list[Region]:
    """The regions of an image.

    Args:
        forms: as in JSON, each with exactly one of box, mask, rle, polygon and points.
        segmenter: finds what points mark.

    Raises:
        InputError: one that can't be used for this image; too many.
    """
    check_count(len(forms), limits)
    found: list[Region] = []
    for position, form in enumerate(forms):
        found += _read(form, position, view, limits, segmenter)
        check_count(len(found), limits)
    return found


def check_count(found: int, limits: Limits) -> None:
    """Raise InputError for more regions than a request may have."""
    if found > limits.max_regions:
        raise InputError(f"regions: expected at most {limits.max_regions}, found {found}")


def mask_regions(data: bytes, name: str, view: ImageView, limits: Limits) -> list[Region]:
    """The regions of a mask file's bytes: one, or one for each label.

    Raises:
        InputError: damaged, of another size than the image, or not clearly a mask.
    """
    return regions_of_bytes(
        data, name, view.size, most=limits.max_pixels, most_regions=limits.max_regions
    )


def _read(
    form: dict[str, Any], position: int, view: ImageView, limits: Limits, segmenter: Segmenter
) -> list[Region]:
    if "mask" in form and isinstance(form["mask"], str):
        name = str(form.get("id", f"mask {position}"))
        return mask_regions(file_bytes(form["mask"], name), name, view, limits)
    check_region(form)
    find_mask = partial(segmenter.mask, view.image)
    return read_region(form, position, Path(), view.size, find_mask)
