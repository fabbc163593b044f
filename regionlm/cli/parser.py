"""The command line, built from dataclasses.

A command is a function whose parameters are annotated with small dataclasses, or that takes one
nested dataclass. Their fields are its options and, under the same names, the keys of its --config
files.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from typing import Any, NoReturn, TypeVar, get_type_hints

from prefix_models.errors import UserError
from regionlm.cli.added import docstring_summary
from regionlm.cli.flags import UsageError, option_kinds, read_words

__all__ = ["Command", "UsageError", "choose", "naming_options", "parse", "parse_settings"]

Command = Callable[..., int | None]
Settings = TypeVar("Settings")

_PROGRAM = "regionlm"
_POSITIONAL = ("image", "name")  # options of these commands that are given without their names


def parse(
    commands: Mapping[str, Command],
    argv: Sequence[str],
    *,
    description: str,
    version: str,
    others: Mapping[str, str] | None = None,
) -> tuple[Command, list[Any]]:
    """Find the command that argv names, and the dataclass instances to call it with.

    `others` are further commands, each with a line of help, that the caller has ruled out already.

    Raises UsageError; --help, --version and --print_config print and raise SystemExit(0).
    """
    summaries = {name: docstring_summary(command) for name, command in commands.items()}
    summaries |= others or {}
    if argv[:1] == ["--version"]:
        _print_and_exit(f"{_PROGRAM} {version}\n")
    name, rest = choose(summaries, argv, prog=_PROGRAM, description=description)
    return commands[name], _parse_parts(name, commands[name], rest)


@contextmanager
def naming_options(command: Command | None) -> Iterator[None]:
    """Let errors that begin with the name of an option begin with it as it is typed: `--size`."""
    try:
        yield
    except UserError as error:
        name, colon, why = str(error).partition(":")
        if command is None or not colon or name not in _kinds(_parts(command)):
            raise
        typed = name if name in _POSITIONAL else f"--{name}"
        raise type(error)(f"{typed}:{why}") from error


def choose(
    commands: Mapping[str, str], argv: Sequence[str], *, prog: str, description: str
) -> tuple[str, Sequence[str]]:
    """The command that argv begins with, and the arguments after it.

    commands: each with a line of help. prog: the words before them.

    Raises UsageError; --help prints and raises SystemExit(0).
    """
    if argv and argv[0] in commands:
        return argv[0], argv[1:]
    if argv and argv[0] in ("-h", "--help"):
        from regionlm.cli.help import commands_help

        has_version = prog == _PROGRAM
        _print_and_exit(commands_help(prog, description, commands, has_version=has_version))
    found = f"no command {argv[0]!r}" if argv else "no command given"
    raise UsageError(f"{found}: expected one of {', '.join(commands)} (see {prog} --help)")


def parse_settings(
    settings: type[Settings],
    argv: Sequence[str],
    *,
    prog: str,
    description: str,
    positional: str | None = None,
) -> Settings:
    """The settings of a command that takes one dataclass, which may hold others.

    Args:
        settings: the dataclass.
        argv: what follows the command.
        prog: how the command is called.
        description: what it does.
        positional: the option that is given without its name.

    Raises UsageError; --help and --print_config print and raise SystemExit(0).
    """
    kinds = option_kinds(settings)
    words = read_words(argv, kinds, positional)
    if words.help:
        from regionlm.cli.help import Section, command_help, description_of

        sections = [Section(description_of(settings).rstrip("."), settings)]
        _print_and_exit(command_help(prog, description, sections, positional))
    from regionlm.cli.settings import build, lack, merge, missing

    given = merge(words, kinds)
    if words.print_config:
        _print_template(given, [settings])
    if lacking := missing(settings, given):
        raise UsageError(lack(lacking, positional))
    return build(settings, given)


def _parse_parts(name: str, command: Command, argv: Sequence[str]) -> list[Any]:
    parts = _parts(command)
    kinds = _kinds(parts)
    positional = next((name for name in _POSITIONAL if name in kinds), None)
    words = read_words(argv, kinds, positional)
    if words.help:
        _print_help(f"{_PROGRAM} {name}", command, parts, positional)
    from regionlm.cli.settings import build, lack, merge, missing

    given = merge(words, kinds)
    if words.print_config:
        _print_template(given, parts)
    own = [{f.name: given[f.name] for f in fields(part) if f.name in given} for part in parts]
    lacking = [one for part, mine in zip(parts, own, strict=True) for one in missing(part, mine)]
    if lacking:
        raise UsageError(lack(lacking, positional))
    return [build(part, mine) for part, mine in zip(parts, own, strict=True)]


def _parts(command: Command) -> list[Any]:
    """The dataclasses that a command takes."""
    return [kind for part, kind in get_type_hints(command).items() if part != "return"]


def _kinds(parts: Sequence[Any]) -> dict[str, Any]:
    return {option: kind for part in parts for option, kind in option_kinds(part).items()}


def _print_help(prog: str, command: Command, parts: Sequence[Any], positional: str | None) -> None:
    from regionlm.cli.help import Section, command_help, description_of

    sections = [Section(description_of(part).rstrip("."), part) for part in parts]
    _print_and_exit(command_help(prog, inspect.getdoc(command) or "", sections, positional))


def _print_template(given: Mapping[str, Any], parts: Sequence[Any]) -> NoReturn:
    from regionlm.cli.settings import template
    from regionlm.cli.values import write_yaml

    options = {name: value for part in parts for name, value in template(part, given).items()}
    _print_and_exit(write_yaml(options))


def _print_and_exit(text: str) -> NoReturn:
    print(text, end="")
    if sys.stdout is not None:
        sys.stdout.flush()
    raise SystemExit(0)
