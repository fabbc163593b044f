"""Parquet as a manifest: a row for each image, with columns ``image``, ``regions`` and ``id``.

- ``image``: a path, relative to the folder of the file; or the bytes of an image file; or an object
  of ``bytes`` and ``path``, as the datasets library writes images.
- ``regions``: a list of objects in the form of `regionlm.bulk.manifest`, or JSON text of such a
  list.
- ``id``: optional; text or whole numbers. Other columns are not read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from prefix_models.checks import check_value
from prefix_models.errors import within
from regionlm.bulk.manifest import IdHashes, Line, decode, id_of, regions_of
from regionlm.bulk.parquet_rows import check_columns, each_row, read_row, row_counts
from regionlm.errors import InputError
from regionlm.files import reading
from regionlm.inputs.json_lines import without_nulls
from regionlm.inputs.regions import FilePath
from regionlm.inputs.shards import find_shards


class ParquetManifest:
    """Opened Parquet files, as `regionlm.bulk.manifest.Lines`.

    Args:
        files: a path, a pattern with ``*``, or a name with braces, ``{000..003}`` or ``{a,b}``.
        skip_bad: allow rows of another form.

    Raises InputError: there are no such files or no rows, a column is missing, ids repeat or,
    unless they are skipped, a row has another form (says which).
    """

    def __init__(self, files: str, *, skip_bad: bool) -> None:
        with within("manifest"):
            self.files = tuple(find_shards(files, "Parquet files"))
        digest = hashlib.sha256()
        for file in self.files:
            with reading(file):
                status = file.stat()
            digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
        self.digest = digest.hexdigest()
        counts = row_counts(self.files)
        self._ends = np.cumsum(counts)
        if not self._ends[-1]:
            raise InputError(f"manifest {files}: expected rows, found none")
        check_columns(self.files, ("image", "regions"))
        hashes = IdHashes()
        for index, row in enumerate(each_row(self.files, ("regions", "id"))):
            line = self._line(index, row)
            if line.problem and not skip_bad:
                raise InputError(f"{self.place(index)}: {line.problem}")
            hashes.add(line.id)
        hashes.check(self)

    def __len__(self) -> int:
        """Number of rows."""
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> Line:
        """Read a row. Raises InputError: the file has changed."""
        row = read_row(self.files, ("image", "regions", "id"), index, self.digest)
        line = self._line(index, row)
        if line.problem:
            return line
        try:
            image, data = _image(row.get("image"), line.image)
        except InputError as error:
            return replace(line, problem=str(error))
        return replace(line, image=image, data=data)

    def place(self, index: int) -> str:
        """The file and number of a row, for messages."""
        file, row = self._at(index)
        return f"{file}, row {row + 1}"

    def _at(self, index: int) -> tuple[Path, int]:
        """File of a row, and its number there, from 0."""
        which = int(np.searchsorted(self._ends, index, side="right"))
        before = int(self._ends[which - 1]) if which else 0
        return self.files[which], index - before

    def _line(self, index: int, row: Mapping[str, Any]) -> Line:
        """A row without its image."""
        file, number = self._at(index)
        line = Line(index + 1, index + 1, f"{file.name}/{number + 1}", [], file.parent)
        value = dict(row)
        try:
            if isinstance(value.get("regions"), str):
                value["regions"] = decode(value["regions"].encode())
            value = without_nulls(value)
            line = replace(line, id=id_of(value, line.number))
            return replace(line, regions=regions_of(value))
        except InputError as error:
            return replace(line, problem=str(error))


def _image(value: Any, name: str) -> tuple[str, bytes | None]:
    """The path or the name of an image, and its bytes."""
    if isinstance(value, Mapping):
        path, data = value.get("path"), value.get("bytes")
        if data is not None:
            return (path or name), data
        value = path
    if isinstance(value, bytes):
        return name, value
    return check_value("image", value, FilePath, InputError), None
