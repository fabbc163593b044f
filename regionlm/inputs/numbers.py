"""Which objects count as numbers in options, and checks of single options."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from pathlib import Path
from typing import TypeGuard

from regionlm.errors import InputError

MOST = 1e6  # of any option; useful ones are below 100


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, Python's or numpy's; True and False are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a real number, Python's or numpy's; True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def check_count(name: str, value: object, *, least: int = 0, most: int | None = None) -> int:
    """An integer from ``least`` to ``most``, of Python or numpy; InputError otherwise."""
    if is_integer(value) and least <= value and (most is None or value <= most):
        return int(value)
    wanted = f"an integer >= {least}" if most is None else f"an integer from {least} to {most}"
    raise InputError(f"{name}: expected {wanted}, got {value!r}")


def check_number(name: str, value: object, *, positive: bool) -> float:
    """A number > 0 or >= 0, of Python or numpy, and not so large that float32 overflows;
    InputError otherwise."""
    if is_number(value) and 0 <= value <= MOST and not (positive and value == 0):
        return float(value)
    if is_number(value) and not abs(value) < math.inf:  # NaN compares false
        raise InputError(f"{name}: expected a finite number, got {value!r}")
    wanted = "> 0" if positive else ">= 0"
    raise InputError(f"{name}: expected a number {wanted} and <= {MOST:g}, got {value!r}")


def check_share(name: str, value: object) -> float:
    """A number from 0 to 1, of Python or numpy; InputError otherwise."""
    if is_number(value) and 0 <= value <= 1:
        return float(value)
    raise InputError(f"{name}: expected a number from 0 to 1, got {value!r}")


def check_flag(name: str, value: object) -> bool:
    """True or False; InputError otherwise."""
    if isinstance(value, bool):
        return value
    raise InputError(f"{name}: expected true or false, got {value!r}")


def check_path(name: str, value: object) -> str | Path:
    """A path as text or `Path`; InputError otherwise."""
    if isinstance(value, str | Path):
        return value
    raise InputError(f"{name}: expected the path of a file or folder, got {value!r}")


def check_choice(name: str, value: object, choices: Sequence[str]) -> object:
    """One of the choices; InputError, which lists them, otherwise."""
    if value in choices:
        return value
    wanted = " or ".join(choices) if len(choices) == 2 else f"one of {', '.join(choices)}"
    raise InputError(f"{name}: expected {wanted}; got {value!r}")
