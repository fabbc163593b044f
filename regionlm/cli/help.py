"""`--help`, made from the dataclasses of the options and their docstrings."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Mapping, Sequence
from dataclasses import Field, fields
from inspect import get_annotations
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

import docstring_parser

from regionlm.cli.flags import (
    alternatives,
    as_written,
    default_of,
    expected,
    group_of,
    has_name,
    is_required,
    items_of,
)


class Section(NamedTuple):
    """A section of a help text: the options of one dataclass.

    above: dotted name that they are under, ending in a dot; None: they are no options, but the keys
    of each item of a list.
    """

    title: str
    settings: Any
    above: str | None = ""


def command_help(
    prog: str, description: str, sections: Sequence[Section], positional: str | None = None
) -> str:
    """The help of a command: what it does, and all its options, those of nested dataclasses too.

    Args:
        prog: how it is called.
        description: what it does.
        sections: its options.
        positional: the option that is given without its name.
    """
    usage = f"{prog} [options]" + (f" [{positional}]" if positional else "")
    parser = _new_parser(prog, description, usage)
    parser.add_argument("--config", metavar="FILE", help="YAML file with any of these options.")
    parser.add_argument(
        "--print_config",
        action="store_true",
        help="Print all options as such a file, as the rest of the command sets them, and exit.",
    )
    for section in sections:
        for one in [section, *_sections_below(section)]:
            _add_section(parser, one, positional)
    return parser.format_help()


def commands_help(
    prog: str, description: str, commands: Mapping[str, str], *, has_version: bool = False
) -> str:
    """The list of commands, each with a line on what it does."""
    parser = _new_parser(prog, description, f"{prog} [options] COMMAND ...")
    if has_version:
        parser.add_argument("--version", action="store_true", help="Print the version and exit.")
    group = parser.add_argument_group(f"commands; {prog} COMMAND --help says more")
    for name, summary in commands.items():
        group.add_argument(name, help=_escaped(summary))
    return parser.format_help()


def description_of(documented: Any) -> str:
    """The part of a docstring before its sections."""
    told = docstring_parser.parse(documented.__doc__ or "")
    return " ".join(filter(None, (told.short_description, told.long_description)))


def _new_parser(prog: str, description: str, usage: str) -> ArgumentParser:
    return ArgumentParser(
        prog=prog, description=_unquoted(description), usage=usage, allow_abbrev=False
    )


def _sections_below(section: Section) -> list[Section]:
    """Sections of the dataclasses nested in a dataclass, and of the items of its lists."""
    found: list[Section] = []
    items: dict[Any, list[str]] = {}
    kinds, told = get_type_hints(section.settings), _descriptions(section.settings)
    for one in fields(section.settings):
        name, kind = f"{section.above}{one.name}", kinds[one.name]
        if group_of(kind) is not None:
            inner = Section(told[one.name].rstrip("."), group_of(kind), f"{name}.")
            found += [inner, *_sections_below(inner)]
        elif items_of(kind) is not None:
            items.setdefault(items_of(kind), []).append(f"--{name}")
    for settings, names in items.items():
        found.append(Section(f"Keys of each item of {' and '.join(names)}", settings, None))
    return found


def _add_section(parser: ArgumentParser, section: Section, positional: str | None) -> None:
    groups = {section.title: parser.add_argument_group(_escaped(section.title))}
    if section.above:
        named = has_name(section.settings)
        whole = "all of these at once: a mapping, or a YAML file of one."
        said = f"The name alone, or {whole}" if named else whole.replace("all", "All", 1)
        option = f"--{section.above.rstrip('.')}"
        groups[section.title].add_argument(
            option, metavar="NAME" if named else "MAPPING", help=said
        )
    kinds, told = get_type_hints(section.settings), _descriptions(section.settings)
    for one in fields(section.settings):
        kind = kinds[one.name]
        if group_of(kind) is not None:  # a section of its own
            continue
        title = _borrowed_from(section.settings, one.name) or section.title
        if title not in groups:
            groups[title] = parser.add_argument_group(_escaped(title))
        group = groups[title]
        name = f"{section.above or ''}{one.name}"
        written = name if section.above is None else as_written([name], positional)
        said = _escaped(f"{told[one.name]} ({_facts(one, kind)})")
        if kind is bool and written.startswith("--"):
            group.add_argument(written, action="store_true", help=said)
        else:
            group.add_argument(written, metavar=_metavar(one.name, kind, written), help=said)


def _borrowed_from(settings: Any, option: str) -> str | None:
    """What the class that declares an option says of itself, if that is another module's."""
    declares = next(one for one in settings.__mro__ if option in get_annotations(one))
    is_own = declares.__module__ == settings.__module__
    told = docstring_parser.parse(declares.__doc__ or "").short_description or ""
    return None if is_own else told.rstrip(".")


def _descriptions(settings: Any) -> dict[str, str]:
    """Descriptions of the fields, from the docstrings of a dataclass and of its bases."""
    found: dict[str, str] = {one.name: "" for one in fields(settings)}
    for base in reversed(settings.__mro__):
        told = docstring_parser.parse(base.__doc__ or "")
        found |= {one.arg_name: " ".join((one.description or "").split()) for one in told.params}
    return found


def _facts(option: Field, kind: Any) -> str:
    kinds = "" if kind is bool or _choices(kind) else f"{expected(kind)}, "
    kinds = "a list, " if items_of(kind) is not None else kinds
    if is_required(option):
        return f"{kinds}required"
    default = default_of(option)
    said = {None: "null", True: "true; add false to turn it off", False: "false", "": "''"}
    known = default is None or isinstance(default, bool | str)
    return f"{kinds}default: {said.get(default, default) if known else default}"


def _metavar(name: str, kind: Any, written: str) -> str:
    if not written.startswith("--"):
        return written
    choices = ",".join(map(str, _choices(kind)))
    return f"{{{choices}}}" if choices else name.upper()


def _choices(kind: Any) -> tuple[Any, ...]:
    literals = [one for one in alternatives(kind) if get_origin(one) is Literal]
    return tuple(choice for one in literals for choice in get_args(one))


def _escaped(text: str) -> str:
    """The help of an option, escaped for argparse, without backquotes."""
    return _unquoted(text).replace("%", "%%")


def _unquoted(text: str) -> str:
    """Text without backquotes; argparse prints descriptions as they are."""
    return text.replace("`", "")
