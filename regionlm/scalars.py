"""Which objects count as numbers in options."""

from __future__ import annotations

import numbers
from typing import TypeGuard


def is_integer(value: object) -> TypeGuard[int]:
    """Whether a value is an integer, Python's or numpy's; True and False are not."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def is_number(value: object) -> TypeGuard[float]:
    """Whether a value is a real number, Python's or numpy's; True and False are not."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)
