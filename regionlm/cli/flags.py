"""Splits a command line into options: one syntax for all commands.

Options are the fields of dataclasses; those of nested dataclasses have dotted names. As in
`regionlm.cli.options`, nothing heavy is imported.
"""

from __future__ import annotations

import types
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from types import NoneType
from typing import Any, Literal, NamedTuple, Union, get_args, get_origin, get_type_hints

from prefix_models.errors import UserError

Value = Any
"""What YAML or JSON can hold, in a dict of settings: as it is given."""

_TRUTHS = ("true", "false", "yes", "no")
_LONGEST = 200


class UsageError(UserError):
    """The command line itself is wrong; the message is one line."""


class Option(NamedTuple):
    """An option as it was given.

    more: its value is added to a list (`--data+ ...`). is_further: it stands after another value of
    the same option, so it may be the positional argument.
    """

    name: str
    text: str
    more: bool = False
    is_further: bool = False


@dataclass
class Words:
    """A command line, split into its options."""

    options: list[Option] = field(default_factory=list)
    configs: list[str] = field(default_factory=list)
    help: bool = False
    print_config: bool = False
    loose: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)


def option_kinds(settings: Any, above: str = "") -> dict[str, Any]:
    """Type of every option of a dataclass, by dotted name, groups of options included."""
    found: dict[str, Any] = {}
    hints = get_type_hints(settings)
    for one in fields(settings):
        kind, name = hints[one.name], above + one.name
        found[name] = kind
        group = group_of(kind)
        if group is not None:
            found |= option_kinds(group, f"{name}.")
    return found


def read_words(
    argv: Sequence[str], kinds: Mapping[str, Any], positional: str | None = None
) -> Words:
    """Split a command line into its options.

    Names may be written with dashes or underscores. A flag takes the next word only if that is a
    truth value (`--flag false`); a flag that may also have a value takes any next word that is no
    option. A list is given by repeating its option, or by several values
    after it (`--mask masks/*.png`). If that leaves nothing for the positional argument, it is the
    last of several values: of those that are files if there are any, else of the first such list.

    Args:
        argv: what follows the command.
        kinds: of its options, as of `option_kinds`.
        positional: the option that is given without its name; a list takes all such words.

    Raises:
        UsageError: an unknown option, unless help is asked for, or an option without a value.
    """
    words, tokens = Words(), deque(argv)
    while tokens:
        token = tokens.popleft()
        name, equals, text = token.partition("=")
        if token == "--":
            words.loose += tokens
            break
        if not token.startswith("-"):
            words.loose.append(token)
        elif token in ("-h", "--help"):
            words.help = True
        elif token in ("--print_config", "--print-config"):
            words.print_config = True
        elif name == "--config":
            words.configs.append(text if equals else _value_of(name, tokens))
        else:
            _read_option(token, tokens, kinds, words)
    _place(words, kinds, positional)
    if words.unknown and not words.help:
        unknown = " ".join(words.unknown)
        raise UsageError(f"unrecognized arguments: {unknown} (see regionlm --help)")
    return words


def known_name(given: str, kinds: Mapping[str, Any]) -> str | None:
    """The full name of an option, or of a key in a dict of settings; None if there is none."""
    for name in (given, given.replace("-", "_")):
        if name in kinds:
            return name
    ends = (end for end, character in enumerate(given) if character == ".")
    for group, rest in ((given[:end].replace("-", "_"), given[end:]) for end in ends):
        if is_dict(kinds.get(group)) and rest.strip("."):
            return group + rest
    return None


def group_of(kind: Any) -> Any:
    """The dataclass among the types of an option; None if it is not a group of options."""
    return next((one for one in alternatives(kind) if is_dataclass(one)), None)


def has_name(group: Any) -> bool:
    """Whether a group of options has a `name`; a text in its place is then that name."""
    return group is not None and any(one.name == "name" for one in fields(group))


def items_of(kind: Any) -> Any:
    """The dataclass of a list's items; None if it is not a list of dataclasses."""
    group = group_of(get_args(kind)[0]) if get_origin(kind) is list and get_args(kind) else None
    return group


def is_dict(kind: Any) -> bool:
    """Whether an option is a dict, whose keys are not options themselves."""
    return get_origin(kind) is dict


def is_texts(kind: Any) -> bool:
    """Whether an option is a list of texts or paths, each given as a word of its own."""
    return is_list(kind) and get_args(kind)[0] in (str, Path)


def takes_several(kind: Any) -> bool:
    """Whether several values may stand after an option: it is a list, or may be one."""
    several = (list, tuple, Sequence)
    return items_of(kind) is None and any(get_origin(one) in several for one in alternatives(kind))


def is_list(kind: Any) -> bool:
    """Whether an option is a list."""
    return get_origin(kind) in (list, Sequence)


def is_required(option: Field) -> bool:
    """Whether a field has no default."""
    return option.default is MISSING and option.default_factory is MISSING


def default_of(option: Field) -> Any:
    """The default of a field that has one."""
    return option.default if option.default_factory is MISSING else option.default_factory()


def alternatives(kind: Any) -> tuple[Any, ...]:
    """The members of a union; of any other type, the type itself."""
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)


def as_written(names: Iterable[str], positional: str | None) -> str:
    """Names of options as they are written on the command line."""
    return ", ".join(name if name == positional else f"--{name}" for name in names)


def expected(kind: Any) -> str:
    """How a message names a type."""
    named = {NoneType: "null", bool: "true or false", float: "a finite number", str: "text"}
    named |= {int: "int", Path: "a path"}
    several = [one for one in alternatives(kind) if one is not NoneType] or [NoneType]
    if len(several) > 1:
        return " or ".join(map(expected, several))
    (one,) = several
    if get_origin(one) is Literal:
        return "one of " + ", ".join(map(repr, get_args(one)))
    if items_of(one) is not None:
        return f"a list, each item {expected(items_of(one))}"
    if is_list(one) and get_args(one):
        return "a list of " + _several(get_args(one)[0])
    if group_of(one) is not None:
        known = "a mapping of " + ", ".join(field.name for field in fields(one))
        return f"a name, or {known}" if has_name(one) else known
    if is_dict(one):
        return "a mapping"
    return named.get(one) or str(one if get_origin(one) else getattr(one, "__name__", one))


def shown(value: Any) -> str:
    """How a message shows a value."""
    text = repr(value)
    return text if len(text) <= _LONGEST else text[: _LONGEST - 3] + "..."


def _several(kind: Any) -> str:
    """How a message names several values of a type."""
    if is_list(kind) and get_args(kind):
        return "lists of " + _several(get_args(kind)[0])
    named = {str: "texts", Path: "paths", int: "integers", float: "numbers"}
    return named.get(kind) or f"items, each {expected(kind)}"


def _read_option(token: str, tokens: deque[str], kinds: Mapping[str, Any], words: Words) -> None:
    name, equals, text = token.partition("=")
    more = name.endswith("+")
    known = known_name(name.removeprefix("--").removesuffix("+"), kinds)
    kind = kinds.get(known or "")
    if known is None or not name.startswith("--") or (more and not is_list(kind)):
        words.unknown.append(token)
        return
    if kind in (bool, bool | str) and not equals:
        text = tokens.popleft() if tokens and _fits_flag(tokens[0], kind) else "true"
    elif not equals:
        text = _value_of(name, tokens)
    words.options.append(Option(known, text, more))
    while takes_several(kind) and not equals and tokens and not tokens[0].startswith("-"):
        words.options.append(Option(known, tokens.popleft(), more, is_further=True))


def _fits_flag(word: str, kind: Any) -> bool:
    """Whether the word after a flag is its value."""
    return word.lower() in _TRUTHS if kind is bool else not word.startswith("-")


def _value_of(name: str, tokens: deque[str]) -> str:
    if not tokens or tokens[0].startswith("--"):
        raise UsageError(f"{name}: expected a value after it")
    return tokens.popleft()


def _place(words: Words, kinds: Mapping[str, Any], positional: str | None) -> None:
    """Give the words without a name to the positional option."""
    if positional is None:
        words.unknown += words.loose
        return
    if not words.loose:
        words.loose += _last_of_several(words.options)
    taken = len(words.loose) if is_texts(kinds[positional]) else 1
    words.options += [Option(positional, text) for text in words.loose[:taken]]
    words.unknown += words.loose[taken:]


def _last_of_several(options: list[Option]) -> list[str]:
    """Take the value off a list that may be the positional argument; none if no list has two."""
    further = [option.is_further for option in options] + [False]
    ends = [i for i in range(len(options)) if further[i] and not further[i + 1]]
    files = [place for place in ends if Path(options[place].text).is_file()]
    return [options.pop((files or ends)[0]).text] if ends else []
