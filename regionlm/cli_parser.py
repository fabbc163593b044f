"""The command line, built from Python signatures.

A command is a function whose parameters are annotated with small dataclasses; the dataclasses'
fields are its options and, under the same names, the keys of its --config file. Required fields of
the first are positional, and so is `image`, required or not; bool fields are flags, list[str]
fields may be repeated.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import re
from argparse import SUPPRESS
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, get_type_hints

import docstring_parser
from jsonargparse import ArgumentParser, Namespace

Command = Callable[..., int | None]

_POSITIONAL = ("image", "folders")


class UsageError(Exception):
    """The command line itself is wrong; the message is one line."""


class _Parser(ArgumentParser):
    """Reports mistakes as UsageError, where the base class prints the whole usage and exits."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        commands = [
            name for a in self._actions if isinstance(a.choices, dict) for name in a.choices
        ]
        message = re.sub(
            r"are required: (.*)$", lambda found: _as_written(found[1], commands), message
        )
        raise UsageError(_one_line(message)) from ex

    def parse_args(self, *args: Any, **options: Any) -> Any:
        """As the base class, which lets a file of another encoding be a bug."""
        try:
            return super().parse_args(*args, **options)
        except UnicodeDecodeError as error:
            self.error(
                f"--config: expected a file of UTF-8 text, found other bytes ({error})", error
            )

    def dump(self, cfg: Namespace, **options: Any) -> str:
        """Write the image before all else, and null where there is none, as of other options."""
        is_whole = not (options.get("skip_default") or options.get("skip_unset"))
        if is_whole and any(action.dest == "image" for action in self._actions):
            rest = {name: value for name, value in vars(cfg).items() if name != "image"}
            cfg = Namespace(image=cfg.get("image"), **rest)
        return str(super().dump(cfg, **options))

    def format_help(self, *args: Any, **options: Any) -> str:
        """Show list options as they are written here, one value a flag."""
        in_list = r"  --(\w+) \[ITEM,...\], --\1\+ \[ITEM,...\]\n +"
        text = super().format_help(*args, **options)
        text = re.sub(in_list, lambda o: f"  {_with_metavar(o)}".ljust(24), text)
        return re.sub(r"--(\w+) \[ITEM,...\]", _with_metavar, text)


def _as_written(keys: str, commands: Sequence[str]) -> str:
    """What jsonargparse lacks, as it stands on the command line."""
    found = [key.split(".") for key in keys.split(", ")]
    names = [".".join(key[1:] if key[0] in commands else key) for key in found]
    shown = [name if name in _POSITIONAL else f"--{name}" for name in names]
    return f"are required: {', '.join(shown)}"


def _with_metavar(option: re.Match[str]) -> str:
    return f"--{option[1]} {option[1].upper()}"


def new_parser(prog: str, description: str) -> ArgumentParser:
    """An empty parser whose mistakes are UsageErrors, for commands that read their own options."""
    return _Parser(prog=prog, description=description, allow_abbrev=False)


def parse(
    commands: dict[str, Command],
    argv: Sequence[str],
    *,
    description: str,
    version: str,
    others: Mapping[str, str] | None = None,
) -> tuple[Command, list[Any]]:
    """Find the command that argv names, and the dataclass instances to call it with.

    `others` are further commands with a line of help, which the caller has looked for already.

    Raises UsageError; --help and --version print and raise SystemExit(0).
    """
    parser = _Parser(prog="regionlm", description=description, version=version, allow_abbrev=False)
    subcommands = parser.add_subcommands()
    for name, command in commands.items():
        summary = inspect.getdoc(command) or ""
        subcommands.add_subcommand(name, _command_parser(command), help=summary.split("\n")[0])
    for name, summary in (others or {}).items():
        subcommands.add_subcommand(name, new_parser(f"regionlm {name}", summary), help=summary)
    if not argv:
        names = ", ".join([*commands, *(others or {})])
        raise UsageError(f"no command given: expected one of {names} (see regionlm --help)")
    first = argv[0]
    if first in commands:
        argv = [first, *_gather_lists(argv[1:], _parts(commands[first]).values())]
    try:
        options = parser.parse_args(list(argv))
    except TypeError as error:  # how jsonargparse words some mistakes in a --config file
        raise UsageError(_one_line(str(error))) from error
    command = commands[options.subcommand]
    values = options[options.subcommand]
    return command, [_fill(part, values) for part in _parts(command).values()]


def _fill(part: type, values: Any) -> Any:
    for name in _flags(part):
        if not isinstance(values[name], bool):  # a --config file may hold anything
            raise UsageError(f"--{name}: expected true or false, found {values[name]!r}")
    names = [field.name for field in dataclasses.fields(part)]
    return part(**{name: values[name] for name in names if name in values})


def _command_parser(command: Command) -> ArgumentParser:
    parser = _Parser(description=inspect.getdoc(command), allow_abbrev=False)
    parser.add_argument("--config", action="config", help="YAML file with any of these options.")
    for position, part in enumerate(_parts(command).values()):
        flags = _flags(part)
        help_of = {p.arg_name: p.description for p in docstring_parser.parse(part.__doc__).params}
        loose = {
            f.name for f in dataclasses.fields(part) if f.name == "image" and f.default is None
        }
        for name in loose:
            # With a default, what is not on the command line would overrule the --config file.
            parser.add_argument(
                name, nargs="?", type=str | None, default=SUPPRESS, help=help_of[name]
            )
        parser.add_class_arguments(part, as_positional=position == 0, skip=flags | loose)
        for name in sorted(flags):
            parser.add_argument(f"--{name}", action="store_true", help=help_of[name])
    return parser


def _parts(command: Command) -> dict[str, type]:
    return {name: kind for name, kind in get_type_hints(command).items() if name != "return"}


def _flags(part: type) -> set[str]:
    return {name for name, kind in get_type_hints(part).items() if kind is bool}


def _gather_lists(argv: Sequence[str], parts: Any) -> list[str]:
    """Rewrite `--mask a --mask b` as `--mask=["a", "b"]`, the one spelling jsonargparse reads.

    Several values may follow one flag (`--mask masks/*.png`) once IMAGE has been given; before it,
    a flag takes one value, or IMAGE would be taken for another mask. --config goes to the front:
    jsonargparse lets the later of two win, here the command line always does.
    """
    kinds = {f"--{name}": kind for part in parts for name, kind in get_type_hints(part).items()}
    single = {name for name, kind in kinds.items() if kind is not bool}
    gathered: dict[str, list[str]] = {n: [] for n, k in kinds.items() if k == list[str]}
    configs: list[str] = []
    rest: list[str] = []
    tokens = deque(argv)
    image_given = False
    while tokens:
        token = tokens.popleft()
        name, equals, value = token.partition("=")
        if token == "--":
            rest += [token, *tokens]
            break
        if name in gathered:
            gathered[name].append(value if equals else _value_of(name, tokens))
            while image_given and not equals and tokens and not tokens[0].startswith("-"):
                gathered[name].append(tokens.popleft())
            continue
        if name == "--config":
            configs.append(f"{name}={value if equals else _value_of(name, tokens)}")
            continue
        rest.append(token)
        if name in single and not equals and tokens:
            rest.append(tokens.popleft())
        image_given = image_given or not token.startswith("-")
    lists = [f"{n}={json.dumps(v, ensure_ascii=False)}" for n, v in gathered.items() if v]
    return configs + lists + rest


def _value_of(name: str, tokens: deque[str]) -> str:
    if not tokens or tokens[0].startswith("--"):
        raise UsageError(f"{name}: expected a value after it")
    return tokens.popleft()


def _one_line(message: str) -> str:
    """Shorten jsonargparse's account of a wrong value to option, expected and found."""
    text = " ".join(message.split())
    text = re.sub(r"<class '(?:\w+\.)*(\w+)'>", r"\1", text)
    key = re.search(r'Parser key "([\w.]+)":', text)
    subtypes = re.search(r"Subtypes: \[(.*?)\] Errors:", text)
    value = re.search(r"Given value: (.*)$", text)
    if key and subtypes and value:
        reason = re.search(r"Errors: - (.*?) - ", text)
        if reason and not reason[1].startswith("Expected"):  # a class that can't be made
            why = reason[1].replace(" (see regionlm --help)", "")
            return f"--{key[1]}: {why}; found {value[1]!r}"
        kinds = re.sub(r",? ?NoneType", "", subtypes[1]).replace(", tuple", " or tuple")
        kinds = kinds.replace("float", "a finite number")
        return f"--{key[1]}: expected {kinds}, found {value[1]!r}"
    text = re.sub(r'Parser key "([\w.]+)":', r"--\1:", text)
    choice = r"Expected a typing.Literal\[(.*)\]. Got value:"
    text = re.sub(choice, r"expected one of \1; found", text)
    wrong = re.search(r"Expected a (\w+)\. Got value: (.*)$", text)
    if wrong:
        kind = wrong[1].replace("float", "a finite number")
        return f"{text[: wrong.start()]}expected {kind}, found {wrong[2]!r}"
    return f"{text.removesuffix('.')} (see regionlm --help)"
