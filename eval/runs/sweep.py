"""Several runs that differ in a few settings: one setting file, one table."""

from __future__ import annotations

import copy
import itertools
import re
from dataclasses import is_dataclass
from pathlib import Path
from typing import Any

from eval.errors import DataError
from eval.settings import Run


def expand(run: Run) -> list[Run]:
    """The runs of a sweep, the last setting changing fastest; the run itself if it has none.

    Raises:
        DataError: a dotted name that is no setting, or without values.
    """
    if not run.sweep:
        return [run]
    runs = []
    for values in itertools.product(*(_values(name, run.sweep[name]) for name in run.sweep)):
        one = copy.deepcopy(run)
        one.sweep = {}
        for name, value in zip(run.sweep, values, strict=True):
            _assign(one, name, value)
        one.output = run.output / folder_name(dict(zip(run.sweep, values, strict=True)))
        runs.append(one)
    return runs


def folder_name(values: dict[str, Any]) -> str:
    """A folder's name out of what is special about a run: "task-classes,alpha-0.5"."""
    parts = []
    for name, value in values.items():
        short = [part for part in name.split(".") if part not in ("name", "options")][-1]
        plain = re.sub(r"[^\w.+-]+", "_", str(value))
        parts.append(f"{short}-{plain}")
    return ",".join(parts)


def _values(name: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise DataError(f"sweep: expected a list of values for {name}, found {values!r}")
    return values


def _assign(run: Run, name: str, value: Any) -> None:
    *path, last = name.split(".")
    holder: Any = run
    for part in path:
        holder = _get(holder, part, name)
    if isinstance(holder, dict):
        holder[last] = value
    else:
        before = _get(holder, last, name)
        setattr(holder, last, Path(value) if isinstance(before, Path) else value)


def _get(holder: Any, part: str, name: str) -> Any:
    if is_dataclass(holder) and hasattr(holder, part):
        return getattr(holder, part)
    if isinstance(holder, dict) and part in holder:
        return holder[part]
    raise DataError(f"sweep: {name} is no setting of a run (nothing named {part})")
