"""Several files as one: patterns, and names with braces."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from regionlm.errors import InputError

_BRACES = re.compile(r"\{(?:([0-9]{1,9})\.\.([0-9]{1,9})|([^{}]*,[^{}]*))\}")


def find_shards(shards: str | Sequence[str], what: str) -> list[Path]:
    """The files that paths name; patterns with ``*``, whose files are sorted by name; or names with
    braces, ``{000..003}`` or ``{a,b}``, all of which must exist.

    what: how messages call the files, such as "tar files".

    Raises InputError: there is no such file, or none is named.
    """
    found: list[Path] = []
    for shard in [shards] if isinstance(shards, str) else shards:
        one = Path(shard).is_file()  # even if its name looks like a pattern
        for pattern in [str(shard)] if one else _expand(str(shard)):
            files = [Path(pattern)]
            if not files[0].is_file():
                files = [Path(name) for name in sorted(glob.glob(pattern))]
            if not files:
                raise InputError(f"expected {what} at {pattern}, found none")
            found += files
    if not found:
        raise InputError(f"expected {what}, found an empty list")
    return found


def _expand(pattern: str) -> Iterator[str]:
    """Expand braces as a shell does, except nested ones; one at a time, as there may be many."""
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    first, last, names = braces.groups()
    for choice in _numbers(first, last) if names is None else names.split(","):
        for rest in _expand(after):
            yield before + choice + rest


def _numbers(first: str, last: str) -> Iterator[str]:
    padded = any(end.startswith("0") and len(end) > 1 for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    step = 1 if int(first) <= int(last) else -1
    for number in range(int(first), int(last) + step, step):
        yield str(number).zfill(width)
