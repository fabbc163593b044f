"""JSON schemas of functions and dataclasses, from their annotations and docstrings.

The same annotations check the arguments of a call, so what an agent is told and what is accepted
are declared once. Nothing but the packages of a bare installation is imported here.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from inspect import Parameter, signature
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import docstring_parser

from prefix_models.checks import Checked, Range, check_value
from prefix_models.errors import within
from regionlm.errors import InputError

Schema = dict[str, Any]

_PLAIN = {str: "string", bool: "boolean", int: "integer", float: "number", dict: "object"}


def describe(documented: Any) -> str:
    """What a docstring says before its sections, in one paragraph."""
    told = docstring_parser.parse(documented.__doc__ or "")
    parts = filter(None, (told.short_description, told.long_description))
    return " ".join(" ".join(parts).split())


def told_of(documented: Any) -> dict[str, str]:
    """What the docstring of a function says of each argument; of a dataclass, also its bases'."""
    found: dict[str, str] = {}
    for one in reversed(getattr(documented, "__mro__", (documented,))):
        parsed = docstring_parser.parse(one.__doc__ or "")
        found |= {at.arg_name: " ".join((at.description or "").split()) for at in parsed.params}
    return found


def arguments_schema(function: Callable[..., Any]) -> Schema:
    """Schema of what an agent gives a tool: all its parameters but the first."""
    kinds = get_type_hints(function, include_extras=True)
    given = _parameters(function)
    required = [name for name, one in given.items() if one.default is Parameter.empty]
    found = _object(function, {name: _schema(kinds[name], False) for name in given}, required)
    for name, one in given.items():
        if one.default not in (Parameter.empty, None):
            default = one.default
            found["properties"][name]["default"] = (
                list(default) if isinstance(default, tuple) else default
            )
    return found


def answer_schema(kind: type) -> Schema:
    """Schema of a dataclass that a tool answers with, as `dataclasses.asdict` writes it."""
    return _schema(kind, True)


def bind(function: Callable[..., Any], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call, each checked and converted to its annotation.

    null is as good as leaving out an argument that has a default.

    Raises:
        InputError: an argument that is unknown, missing, or not what it should be.
    """
    name, given = function.__name__, _parameters(function)
    if not isinstance(arguments, Mapping):
        raise InputError(f"{name}: expected arguments by name, found {type(arguments).__name__}")
    for one in arguments:
        if one not in given:
            raise InputError(f"{one}: not an argument of {name}, which takes {', '.join(given)}")
    kinds = get_type_hints(function, include_extras=True)
    bound = {}
    for one, parameter in given.items():
        if arguments.get(one) is not None:
            bound[one] = _bound(one, arguments[one], kinds[one])
        elif parameter.default is Parameter.empty:
            raise InputError(f"{one}: {name} needs it ({told_of(function)[one].rstrip('.')})")
    return bound


def _bound(name: str, value: Any, kind: Any) -> Any:
    """A checked value; what should be a `Checked` dataclass is made from an object."""
    parts = [one for one in _alternatives(kind) if one is not types.NoneType]
    item = get_args(parts[0])[0] if get_origin(parts[0]) is list else None
    if item is not None and is_dataclass(item):
        check_value(name, value, list, InputError)
        return [_bound(f"{name}[{i}]", one, item) for i, one in enumerate(value)]
    if isinstance(parts[0], type) and issubclass(parts[0], Checked):
        check_value(name, value, dict, InputError)
        with within(name):
            return parts[0].read(value, "a region")
    return check_value(name, value, kind, InputError)


def _parameters(function: Callable[..., Any]) -> dict[str, Parameter]:
    return dict(list(signature(function).parameters.items())[1:])


def _object(documented: Any, properties: dict[str, Schema], required: list[str]) -> Schema:
    told = told_of(documented)
    for name, one in properties.items():
        if name in told:
            properties[name] = {"description": told[name], **one}
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": False,
    }


def _alternatives(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def _schema(kind: Any, nullable: bool) -> Schema:
    """nullable: whether None is a value of its own, and not only what was left out."""
    if get_origin(kind) is Annotated:
        inner, *notes = get_args(kind)
        bounds = [_bounds(note) for note in notes if isinstance(note, Range)]
        return {
            key: value
            for part in [_schema(inner, nullable), *bounds]
            for key, value in part.items()
        }
    options = _alternatives(kind)
    if len(options) > 1:
        found = [_schema(one, nullable) for one in options if one is not types.NoneType]
        if nullable and types.NoneType in options:
            found.append({"type": "null"})
        return found[0] if len(found) == 1 else {"anyOf": found}
    origin, args = get_origin(kind), get_args(kind)
    if origin is Literal:
        return {"type": "string", "enum": list(args)}
    if origin is list:
        return {"type": "array", "items": _schema(args[0], nullable)}
    if origin is tuple:
        sizes = {"minItems": len(args), "maxItems": len(args)}
        return {"type": "array", "items": _schema(args[0], nullable), **sizes}
    if is_dataclass(kind):
        return _dataclass_schema(kind, nullable)
    return {"type": _PLAIN[origin or kind]}


def _dataclass_schema(kind: Any, nullable: bool) -> Schema:
    kinds = get_type_hints(kind, include_extras=True)
    names = [one.name for one in fields(kind)]
    properties = {name: _schema(kinds[name], nullable) for name in names}
    return _object(kind, properties, names if nullable else [])


def _bounds(allowed: Range) -> Schema:
    named = {"minimum": allowed.least, "maximum": allowed.most, "exclusiveMinimum": allowed.above}
    return {name: value for name, value in named.items() if abs(value) != float("inf")}
