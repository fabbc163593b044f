"""Random access to the lines of a JSON lines file."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from regionlm.errors import InputError
from regionlm.files import reading


def without_nulls(value: Any) -> Any:
    """The value of a line without nulls, which tables write for empty cells.

    In an object, and in the objects of its list ``regions``, keys whose value is null are left out;
    anything else is returned as it is.
    """
    if not isinstance(value, dict):
        return value
    kept = {key: one for key, one in value.items() if one is not None}
    if isinstance(kept.get("regions"), list):
        kept["regions"] = [
            {k: v for k, v in one.items() if v is not None} if isinstance(one, dict) else one
            for one in kept["regions"]
        ]
    return kept


class JsonLines:
    """An opened file; a line takes 16 bytes of memory, however long it is.

    path: the file. numbers: line numbers, from 1, of the lines that are not blank. digest: SHA-256
    of its bytes.

    Args:
        path: of the file.
        see: called with each line that is not blank, and its number.

    Raises:
        InputError: no such file, or no line in it; and what `see` raises.
    """

    def __init__(self, path: str | Path, see: Callable[[bytes, int], object]) -> None:
        self.path = Path(path)
        starts, numbers = array("q"), array("q")
        digest, start = hashlib.sha256(), 0
        with reading(path), self.path.open("rb") as stream:
            for number, raw in enumerate(stream, 1):
                digest.update(raw)
                if raw.strip():
                    starts.append(start)
                    numbers.append(number)
                    see(raw, number)
                start += len(raw)
        if not starts:
            raise InputError(f"manifest {path} is empty: expected a JSON object per line")
        self._starts, self.numbers = np.array(starts, np.int64), np.array(numbers, np.int64)
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        """How many lines, blank ones not counted."""
        return len(self._starts)

    def read(self, index: int) -> tuple[bytes, int]:
        """A line and its number; InputError: the file is gone."""
        with reading(self.path), self.path.open("rb") as stream:
            stream.seek(int(self._starts[index]))
            return stream.readline(), int(self.numbers[index])
