"""Options of a command whose settings are nested dataclasses, by their dotted names.

Standard library only, as `regionlm.cli_options`.
"""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import TYPE_CHECKING, Any, Union, get_args, get_origin, get_type_hints

if TYPE_CHECKING:
    Value = Any
else:

    class Value:
        """Anything that YAML or JSON can hold, in a list or dict of settings: texts in it stay
        texts, where jsonargparse would read them as YAML once more (``Any``: "1" becomes 1)."""


#: Before a value that is no YAML yet, but a word of the command line (which has no such character).
TYPED = "\0"


def option_kinds(settings: Any, above: str = "") -> dict[str, Any]:
    """Type of every option of a dataclass, by dotted name, groups of options included."""
    found: dict[str, Any] = {}
    hints = get_type_hints(settings)
    for field in fields(settings):
        kind, name = hints[field.name], above + field.name
        found[name] = kind
        group = next((one for one in _either(kind) if is_dataclass(one)), None)
        if group is not None:
            found |= option_kinds(group, f"{name}.")
    return found


def spell_out(argv: Sequence[str], settings: type) -> list[str]:
    """Rewrite `--skip_bad` or `--skip-bad` as `--skip_bad=true`; a value after it stays its own.

    Dashes stand for underscores in any option of `settings`. No argument may be positional. The
    value of `--embedder.options.lr`, inside of a dict of `Value`, is marked as `TYPED`.
    """
    kinds = {f"--{name}": kind for name, kind in option_kinds(settings).items()}
    found = []
    inside = False
    for token, after in zip(argv, [*argv, "--"][1:], strict=True):
        if inside and not token.startswith("--"):
            found.append(TYPED + token)
            inside = False
            continue
        name, equals, value = token.partition("=")
        inside = not equals and _is_inside(name, kinds)
        if equals and _is_inside(name, kinds):
            token = f"{name}={TYPED}{value}"
        plain = "--" + name.removeprefix("--").replace("-", "_")
        if name.startswith("--") and plain in kinds:
            bare = kinds[plain] is bool and not equals and after.startswith("--")
            token = plain + ("=true" if bare else equals + value)
        found.append(token)
    return found


def _is_inside(name: str, kinds: Mapping[str, Any]) -> bool:
    groups = (name[:end] for end, character in enumerate(name) if character == ".")
    return any(kinds.get(group) == dict[str, Value] for group in groups)


def _either(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
