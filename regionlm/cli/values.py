"""Reads plain values from YAML, and converts them to the types of options with jsonargparse.

jsonargparse is asked about one value at a time, so the caller knows which value was refused and
words the message: nothing here or elsewhere depends on the wording of jsonargparse's messages.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from copy import deepcopy
from functools import cache
from types import NoneType
from typing import Any, get_origin, get_type_hints

from jsonargparse import ArgumentError, ArgumentParser
from yaml import SafeDumper, SafeLoader, YAMLError, dump, load

from regionlm.cli.flags import alternatives, expected, shown


def read_yaml(text: str) -> Any:
    """The value of a YAML text; 1e-3 is a number, as in JSON, and a date is text.

    Raises ValueError, with the reason in one line.
    """
    try:
        return load(text, Loader=_Loader)
    except YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


def read_word(text: str) -> Any:
    """The YAML value of a word, as if it followed a key; the word itself if that value is text.

    So quotes make it text ("'1'"), and text may hold characters that are special in YAML ("a: b",
    "a #1").
    """
    try:
        found = read_yaml(f"value: {text}")["value"] if text.strip() else text
    except ValueError:
        return text
    is_word = isinstance(found, str) and not text.startswith(("'", '"'))
    return text if is_word else found


def write_yaml(value: Mapping[str, Any]) -> str:
    """A text that `read_yaml` reads as `value`."""
    return dump(value, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def converted(kind: Any, value: Any) -> Any:
    """Convert a value from a file or the command line to a type.

    Raises ValueError: it does not fit the type, or is None and the type has no None.
    """
    if value is None and NoneType not in alternatives(kind):
        raise ValueError
    try:
        found = _reader(kind).parse_object({"value": value})["value"]
    except (ArgumentError, TypeError) as error:
        raise ValueError from error
    return tuple(found) if get_origin(kind) is Sequence else found  # as defaults are


class WrongArgument(ValueError):
    """An argument that a class does not take, or lacks; the message begins with its name."""


class Arguments:
    """The arguments of a class of another library, as jsonargparse finds them.

    Args:
        made: the class.
        skip: names of arguments that can't be given.
    """

    def __init__(self, made: type, skip: Collection[str] = ()) -> None:
        self._class, self._skip = made, set(skip)
        self._parser = ArgumentParser(exit_on_error=False)
        self.names = self._add(self._parser, self._skip)

    def converted(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """The given arguments, each converted to its type; objects of further classes are created.

        Raises:
            WrongArgument: an unknown or missing argument, or one of another type. Also whatever the
                constructors of further classes raise.
        """
        try:
            parsed = self._parser.parse_object({"it": deepcopy(dict(given))})
        except (ArgumentError, TypeError) as error:
            why = self._mistake(given) or f"{', '.join(given)}: {' '.join(str(error).split())}"
            raise WrongArgument(why) from error
        found = self._parser.instantiate(parsed).get("it")  # None: it takes nothing
        return {name: found[name] for name in given}

    def _add(self, parser: ArgumentParser, skip: set[str]) -> list[str]:
        added = parser.add_class_arguments(
            self._class, "it", skip=set(skip), instantiate=False, fail_untyped=False
        )
        return [name.removeprefix("it.") for name in added]

    def _mistake(self, given: Mapping[str, Any]) -> str | None:
        """What is wrong, found by trying one argument at a time."""
        for name in given:
            if name not in self.names:
                return f"{name}: no argument of {self._class.__name__}"
        for name in self.names:
            if not self._is_taken(name, given):
                if name in given:
                    return f"{name}: expected {self._type_of(name)}, found {shown(given[name])}"
                return f"{name}: has to be given"
        return None

    def _is_taken(self, name: str, given: Mapping[str, Any]) -> bool:
        parser = ArgumentParser(exit_on_error=False)
        self._add(parser, self._skip | set(self.names) - {name})
        try:
            parser.parse_object({"it": {name: given[name]} if name in given else {}})
        except (ArgumentError, TypeError):
            return False
        return True

    def _type_of(self, name: str) -> str:
        try:
            return expected(get_type_hints(self._class.__init__)[name])  # type: ignore[misc]
        except (NameError, KeyError, TypeError):  # it says none, or one that only its file knows
            return f"what {self._class.__name__} takes"


@cache
def _reader(kind: Any) -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=kind)
    return parser


class _Loader(SafeLoader):
    """PyYAML's, except for numbers without a point and for dates."""


_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?[0-9]+(\.[0-9]*)?[eE][-+]?[0-9]+$"),
    [*"-+0123456789"],
)
_Loader.add_constructor("tag:yaml.org,2002:timestamp", lambda loader, node: node.value)


class _Dumper(SafeDumper):
    """Quotes the texts that `read_yaml` would not read as such, but PyYAML would."""


def _represent_text(dumper: SafeDumper, text: str) -> Any:
    try:
        is_plain = read_yaml(text) == text
    except ValueError:
        is_plain = False
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if is_plain else '"')


_Dumper.add_representer(str, _represent_text)
