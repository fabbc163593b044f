"""Rows of Parquet files, by number and in the memory of a few of them."""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from prefix_models.errors import refusing
from regionlm.errors import InputError
from regionlm.extras import extra

with extra("bulk"):
    import pyarrow as pa
    import pyarrow.parquet as pq

_TOGETHER = 32  # rows decoded at once, which may be images of megabytes
_KEPT = 3  # batches: threads ask for rows that are near to each other, not quite in order
_BUFFER = 1 << 20  # bytes; without one, pyarrow reads a column of a whole row group at once


def row_counts(files: Sequence[Path]) -> list[int]:
    """Number of rows of each file. Raises InputError: one is no Parquet file."""
    return [_open(file).metadata.num_rows for file in files]


def check_columns(files: Sequence[Path], names: Sequence[str]) -> None:
    """Raise InputError unless all files have these columns."""
    for file in files:
        found = _open(file).schema_arrow.names
        for name in names:
            if name not in found:
                shown = ", ".join(found[:10]) or "none"
                raise InputError(f"{file}: expected a column {name}, found {shown}")


def each_row(files: Sequence[Path], names: Sequence[str]) -> Iterator[Mapping[str, Any]]:
    """All rows in order, each with those of the named columns that its file has."""
    for file in files:
        for batch in _batches(file, names, 0):
            yield from batch.to_pylist()


def read_row(
    files: tuple[Path, ...], names: tuple[str, ...], index: int, digest: str
) -> Mapping[str, Any]:
    """A row of several files one after the other, with those named columns that its file has.

    Any number of threads may ask at the same time. It is fast where they go forward.

    digest: which files that are replaced by others change.

    Raises InputError: a file has changed.
    """
    return _reader(files, names, digest).row(index)


class _Reader:
    """Reads forward from wherever it was asked to, and keeps the last batches of rows."""

    def __init__(self, files: tuple[Path, ...], names: tuple[str, ...]) -> None:
        self._files, self._names = files, names
        self._lock = threading.Lock()
        self._kept: deque[tuple[int, pa.RecordBatch]] = deque(maxlen=_KEPT)
        self._coming: Iterator[tuple[int, pa.RecordBatch]] = iter(())
        self._next = -1
        """The row with which the next batch begins."""
        self._groups = list(self._find_groups())

    def row(self, index: int) -> Mapping[str, Any]:
        with self._lock:
            batch, place = self._find(index)
        return batch.slice(place, 1).to_pylist()[0]

    def _find(self, index: int) -> tuple[pa.RecordBatch, int]:
        for first, batch in self._kept:
            if first <= index < first + batch.num_rows:
                return batch, index - first
        group = bisect_right(self._groups, (index, len(self._files))) - 1
        if not self._groups[group][0] <= self._next <= index:
            self._coming = self._from(group)
        for first, batch in self._coming:
            self._kept.append((first, batch))
            self._next = first + batch.num_rows
            if index < self._next:
                return batch, index - first
        raise InputError(f"{self._files[self._groups[group][1]]} has changed: start again")

    def _from(self, group: int) -> Iterator[tuple[int, pa.RecordBatch]]:
        """Batches from the beginning of a row group on, each with the number of its first row."""
        first, which, number = self._groups[group]
        for file in self._files[which:]:
            for batch in _batches(file, self._names, number):
                yield first, batch
                first += batch.num_rows
            number = 0

    def _find_groups(self) -> Iterator[tuple[int, int, int]]:
        """First row, number of the file, and number in it, of each row group that has rows."""
        first = 0
        for which, file in enumerate(self._files):
            about = _open(file).metadata
            for number in range(about.num_row_groups):
                if about.row_group(number).num_rows:
                    yield first, which, number
                    first += about.row_group(number).num_rows


@lru_cache(maxsize=1)
def _reader(files: tuple[Path, ...], names: tuple[str, ...], digest: str) -> _Reader:
    """One reader a process, so that a pickled manifest goes on where the last one was."""
    return _Reader(files, names)


def _open(file: Path) -> pq.ParquetFile:
    with refusing(InputError, f"{file}: expected a Parquet file", (OSError, pa.ArrowException)):
        return pq.ParquetFile(file, buffer_size=_BUFFER, pre_buffer=False)


def _batches(file: Path, names: Sequence[str], group: int) -> Iterator[pa.RecordBatch]:
    """Batches of rows from a row group on."""
    with _open(file) as opened, refusing(InputError, f"{file} is damaged", pa.ArrowException):
        there = [name for name in names if name in opened.schema_arrow.names]
        groups = list(range(group, opened.num_row_groups))
        yield from opened.iter_batches(_TOGETHER, row_groups=groups, columns=there)
