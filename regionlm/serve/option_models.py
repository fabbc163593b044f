"""Options as pydantic models, made from the dataclasses that declare them for the Python API."""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import MISSING, Field, fields
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from prefix_models.checks import Range
from regionlm.extras import extra
from regionlm.tools.schema import told_of

with extra("serve"):
    import pydantic
    from pydantic import BaseModel, ConfigDict, create_model


class Form(BaseModel):
    """Base of everything that comes in a request: JSON's own types, no unknown names, no NaN."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)


def options_model(
    name: str, sources: Sequence[type], *, more: dict[str, Any] | None = None
) -> type[Form]:
    """A model of the fields of some dataclasses: types, ranges, choices, defaults, descriptions.

    What is a path on the server is left out. Every field may be left out.

    Args:
        name: of the model.
        sources: dataclasses; of a field that several have, the first one's counts.
        more: further fields, as ``pydantic.create_model`` takes them.
    """
    found: dict[str, Any] = dict(more or {})
    for source in sources:
        kinds, told = get_type_hints(source, include_extras=True), told_of(source)
        for one in fields(source):
            if one.name not in found and not _is_path(kinds[one.name]):
                about = pydantic.Field(default=_default(one), description=told.get(one.name))
                found[one.name] = (_translated(kinds[one.name]), about)
    model: type[Form] = create_model(name, __base__=Form, **found)
    return model


def _default(one: Field[Any]) -> Any:
    if one.default is not MISSING:
        return one.default
    return None if one.default_factory is MISSING else one.default_factory()


def _translated(kind: Any) -> Any:
    """An annotation with our `Range`s in pydantic's terms; our `Described` is checked by us."""
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        inner = _translated(args[0])
        bounds = [_bounds(one) for one in args[1:] if isinstance(one, Range)]
        return Annotated[inner, bounds[0]] if bounds else inner
    if origin in (Union, types.UnionType):
        return Union[tuple(map(_translated, args))]  # noqa: UP007
    if origin in (list, Sequence):
        return list[_translated(args[0])]  # type: ignore[misc]
    if origin is tuple:
        return tuple[tuple(map(_translated, args))]  # type: ignore[misc]
    return kind


def _bounds(one: Range) -> Any:
    limits: dict[str, Any] = {"ge": one.least, "gt": one.above, "le": one.most}
    return pydantic.Field(**{key: value for key, value in limits.items() if abs(value) < 2**63})


def _is_path(kind: Any) -> bool:
    return kind is Path or any(map(_is_path, get_args(kind)))
