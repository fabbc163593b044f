"""Options of a command whose settings are nested dataclasses, by their dotted names.

Standard library only, as `regionlm.cli_options`.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, Union, get_args, get_origin, get_type_hints


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

    Dashes stand for underscores in any option of `settings`. No argument may be positional.
    """
    kinds = {f"--{name}": kind for name, kind in option_kinds(settings).items()}
    found = []
    for token, after in zip(argv, [*argv, "--"][1:], strict=True):
        name, equals, value = token.partition("=")
        plain = "--" + name.removeprefix("--").replace("-", "_")
        if name.startswith("--") and plain in kinds:
            bare = kinds[plain] is bool and not equals and after.startswith("--")
            token = plain + ("=true" if bare else equals + value)
        found.append(token)
    return found


def _either(kind: Any) -> tuple[Any, ...]:
    return get_args(kind) if get_origin(kind) in (Union, types.UnionType) else (kind,)
