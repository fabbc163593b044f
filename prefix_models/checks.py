"""Checks the fields of dataclasses against their annotations, which say what values they may have.

    Count = Annotated[int, Range(0)]

    @dataclass(frozen=True)
    class Options(Checked):
        steps: Count = 10
        scale: Annotated[float, Range(above=0)] | None = None
        kind: Literal["mean", "max"] = "mean"

Nothing but the standard library may be imported here, so that options can be listed and checked
before torch is loaded.
"""

from __future__ import annotations

import math
import numbers
import types
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from functools import cache
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    ClassVar,
    Literal,
    TypeGuard,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from prefix_models.errors import UserError

if TYPE_CHECKING:
    from typing_extensions import Self  # in typing from Python 3.11 on


@dataclass(frozen=True)
class Range:
    """Numbers from ``least``, or above ``above``, to ``most``, all finite.

    hint: what to do instead; ends the message about a number out of range.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    hint: str = ""

    def allows(self, value: float) -> bool:
        """Whether a number is in the range."""
        return self.least <= value <= self.most and self.above < value and abs(value) < math.inf

    def worded(self, noun: str) -> str:
        """In words: "an integer >= 1"."""
        if -math.inf < self.least and self.most < math.inf:
            return f"{noun} from {_shown(self.least)} to {_shown(self.most)}"
        bounds = []
        if self.least > -math.inf:
            bounds.append(f">= {_shown(self.least)}")
        if self.above > -math.inf:
            bounds.append(f"> {_shown(self.above)}")
        if self.most < math.inf:
            bounds.append(f"<= {_shown(self.most)}")
        return " ".join([noun, " and ".join(bounds)]).strip()


@dataclass(frozen=True)
class Described:
    """Words for what is expected, in messages; ``fits``, if given, accepts values of the type."""

    text: str
    fits: Callable[[Any], Any] | None = None
    hint: str = ""

    def allows(self, value: Any) -> bool:
        """Whether a value of the type is accepted."""
        return self.fits is None or bool(self.fits(value))

    def worded(self, noun: str) -> str:
        """The text."""
        return self.text


Count = Annotated[int, Range(0)]
PositiveCount = Annotated[int, Range(1)]
AnyPath = Annotated[str | Path, Described("the path of a file or folder")]


class Checked:
    """Base of dataclasses whose fields are checked against their annotations.

    NumPy's numbers are accepted and become Python's. A dataclass with further rules, such as one
    about two fields, checks them in its own ``__post_init__``, after calling this one's.

    Raises:
        UserError: a field of another type or out of range; subclasses say which kind of it.
    """

    error: ClassVar[type[UserError]] = UserError
    section: ClassVar[str] = ""
    """Put before a field's name in messages, such as "recipe."."""

    def __post_init__(self) -> None:
        self.check()

    def check(self) -> None:
        """Check all fields again, for a dataclass that is not frozen."""
        for name, kind in _annotations(type(self)).items():  # type: ignore[arg-type]
            value = check_value(self.section + name, getattr(self, name), kind, self.error)
            object.__setattr__(self, name, value)

    @classmethod
    def read(cls, values: Mapping[str, Any], owner: str) -> Self:
        """Build from values by name; ``owner``: whose options these are, for messages.

        Raises:
            UserError: as the class does, or a name that is unknown or missing.
        """
        known = {one.name: one for one in fields(cls)}  # type: ignore[arg-type]
        for name in values:
            if name not in known:
                raise cls.error(
                    f"{cls.section}{name}: not an option of {owner}, which has {', '.join(known)}"
                )
        for name, one in known.items():
            required = one.default is MISSING and one.default_factory is MISSING
            if required and values.get(name) is None:
                raise cls.error(f"{cls.section}{name}: {owner} needs it")
        return cls(**values)


def check_value(name: str, value: Any, kind: Any, error: type[UserError]) -> Any:
    """Return a value converted to a type; raise ``error`` if it does not fit.

    Args:
        name: of the value, for messages.
        value: any object.
        kind: a type as in an annotation, with `Range` and `Described` in ``Annotated``.
        error: the kind of error to raise.
    """
    try:
        return _fitted(value, kind)
    except _UnfitError:
        expected, hint, found = _worded(kind), hint_of(kind), repr(value)
        if len(found) > _LONGEST:
            found = f"{found[: _LONGEST - 3]}..."
        comma = ";" if "," in expected else ","
        message = f"{name}: expected {expected}{comma} found {found}"
        raise error(f"{message}; {hint}" if hint else message) from None


def check_choice(name: str, value: Any, choices: Collection[str], error: type[UserError]) -> Any:
    """Return a value that is one of the choices; raise ``error``, which lists them, otherwise."""
    return check_value(name, value, Literal[tuple(choices)], error)


def hint_of(kind: Any) -> str:
    """What to do about a value that does not fit an annotation, or a part of a union; or ""."""
    if get_origin(kind) is Annotated:
        return next((one.hint for one in get_args(kind)[1:] if one.hint), "")
    parts = get_args(kind) if get_origin(kind) in (Union, types.UnionType) else ()
    return next(filter(None, map(hint_of, parts)), "")


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, Python's or NumPy's; True and False are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a real number, Python's or NumPy's; True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


_LONGEST = 200
_NOUNS: dict[Any, str] = {
    bool: "true or false",
    int: "an integer",
    float: "a number",
    str: "text",
    Path: "a path",
    dict: "a mapping",
    **dict.fromkeys((list, tuple, Sequence), "a list"),
}


class _UnfitError(Exception):
    pass


@cache
def _annotations(kind: Any) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {one.name: hints[one.name] for one in fields(kind)}


def _fitted(value: Any, kind: Any) -> Any:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        found = _fitted(value, args[0])
        return _found(found, all(one.allows(found) for one in args[1:]))
    if origin in (Union, types.UnionType):
        return _fitted_to_one(value, args)
    if origin is Literal:
        return _found(value, value in args)
    if origin in (list, tuple, Sequence):
        return _fitted_items(value, kind)
    if kind is int:
        return int(_found(value, is_integer(value)))
    if kind is float:
        return _finite(_found(value, is_number(value)))
    if kind is Path and isinstance(value, str):
        return Path(value)
    return _found(value, kind is Any or isinstance(value, origin or kind))


def _fitted_to_one(value: Any, kinds: Sequence[Any]) -> Any:
    for kind in kinds:
        try:
            return _fitted(value, kind)
        except _UnfitError:
            continue
    raise _UnfitError


def _fitted_items(value: Any, kind: Any) -> Any:
    origin, kinds = get_origin(kind), get_args(kind)
    wanted = list if origin is list else Sequence
    items = _found(value, isinstance(value, wanted) and not isinstance(value, str | bytes))
    if origin is tuple and kinds[-1] is not ...:
        _found(items, len(items) == len(kinds))
    else:
        kinds = kinds[:1] * len(items)
    fitted = map(_fitted, items, kinds)
    return tuple(fitted) if isinstance(value, tuple) else list(fitted)


def _finite(value: Any) -> float:
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    return _found(found, math.isfinite(found))


def _found(value: Any, fits: bool) -> Any:
    if not fits:
        raise _UnfitError
    return value


def _worded(kind: Any) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return str(args[-1].worded(_worded(args[0])))
    if origin in (Union, types.UnionType):
        return " or ".join(_worded(one) for one in args if one is not types.NoneType)
    if origin is Literal:
        return " or ".join(args) if len(args) == 2 else f"one of {', '.join(map(str, args))}"
    if origin is tuple and args[-1] is not ...:
        return f"({', '.join(map(_worded, args))})"
    return _NOUNS.get(origin or kind) or str(getattr(kind, "__name__", kind))


def _shown(bound: float) -> str:
    return str(bound) if isinstance(bound, int) else f"{bound:.10g}"
