"""The settings that an output folder was begun with."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regionlm.errors import InputError

_NAMED = 3


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError, which names the first differences, unless settings are the same.

    Args:
        folder: that holds a run of the settings `before`.
        before, now: JSON values.
    """
    old, new = _flat(before), _flat(now)
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if changed:
        raise InputError(
            f"output folder {folder}: holds a run with other settings ("
            + "; ".join(f"{key} was {old.get(key)}, is {new.get(key)}" for key in changed[:_NAMED])
            + "); give another --output, or delete it to start anew"
        )


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{above}{key}.")
        else:
            found[above + key] = value
    return found
