"""What to caption: JSON lines here, or tar files or Parquet, which hold the images as well.

    {"image": "photos/1.jpg", "regions": [{"mask": "masks/1.png"}, {"box": [3, 120, 148, 271]}]}
    {"image": "photos/2.jpg", "regions": [{"polygon": [[9, 9, 80, 9, 80, 60]], "id": "cat"}]}

- ``image``, and the ``mask`` of a region: a path, relative to the manifest's folder.
- ``regions``: a list of at least one. Each has exactly one of ``mask`` (a file, as on the command
  line), ``rle`` (COCO's run-length code, ``{"size": [height, width], "counts": ...}``, compressed
  or not), ``polygon`` (COCO's list of ``[x0, y0, x1, y1, ...]``, whose union is the region),
  ``box`` (``[x0, y0, x1, y1]``) and ``points`` (``[[x, y], [x, y, 0], ...]``, 0 for those outside;
  what they mark is found by colour). Numbers are pixels; x1 and y1 of a box are exclusive. An
  ``id`` replaces the name of the region.
- ``id``: a unique text or integer; by default the number of the line.
- null, which tables export for an empty cell, counts as left out.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from prefix_models.checks import check_value
from prefix_models.errors import within
from regionlm.errors import InputError
from regionlm.inputs.json_lines import JsonLines, without_nulls
from regionlm.inputs.regions import FilePath, Several, check_id, check_region

_KEYS = ("image", "regions", "id")


@dataclass(frozen=True)
class Line:
    """One line.

    number: in the file, from 1. image: path, or the name of an image whose bytes are in `data`.
    regions: JSON objects of a checked form. folder: the start of relative paths. problem: why the
    line can't be used; empty if it can.
    """

    number: int
    id: str | int
    image: str
    regions: list[dict[str, Any]]
    folder: Path
    data: bytes | None = field(default=None, repr=False)
    problem: str = ""


class Lines(Protocol):
    """An opened manifest of any form, which may be pickled.

    All lines are checked when it is opened, and read again when they are needed; several threads
    may do so at the same time. Images and masks are not decoded.

    digest: of what the lines depend on.
    """

    digest: str

    def __len__(self) -> int:
        """Number of lines."""
        ...

    def __getitem__(self, index: int) -> Line:
        """Read a line. Raises InputError: the file has changed."""
        ...

    def place(self, index: int) -> str:
        """The file and number of a line, for messages."""
        ...


class Manifest:
    """An opened manifest of JSON lines, as `Lines`. Each line takes 16 bytes of memory.

    Raises InputError: the file is missing or empty, or a line has another form (says which).
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)
        hashes = IdHashes()
        self._lines = JsonLines(path, lambda raw, number: hashes.add(self._parse(raw, number).id))
        self.digest = self._lines.digest
        hashes.check(self)

    def __len__(self) -> int:
        """Number of lines, without blank ones."""
        return len(self._lines)

    def __getitem__(self, index: int) -> Line:
        """Read a line. Raises InputError: the file has changed."""
        return self._parse(*self._lines.read(index))

    def place(self, index: int) -> str:
        """The file and number of a line, for messages."""
        return f"{self._path}, line {self._lines.numbers[index]}"

    def _parse(self, raw: bytes, number: int) -> Line:
        with within(f"{self._path}, line {number}"):
            value = without_nulls(decode(raw))
            _check_keys(value)
            image = check_value("image", value.get("image"), FilePath, InputError)
            return Line(number, id_of(value, number), image, regions_of(value), self._path.parent)


class IdHashes:
    """Finds an id that occurs twice; 8 bytes for each."""

    def __init__(self) -> None:
        self._hashes = array("q")

    def add(self, id: str | int) -> None:
        """Note the id of the next line."""
        self._hashes.append(hash(str(id)))

    def check(self, lines: Lines) -> None:
        """Raise InputError for an id that two lines have.

        lines: all whose ids were noted; only those whose hashes agree are read again.
        """
        hashes = np.array(self._hashes, np.int64)
        order = np.argsort(hashes, kind="stable")
        ordered = hashes[order]
        same = np.flatnonzero(ordered[1:] == ordered[:-1])
        for first, second in zip(order[same].tolist(), order[same + 1].tolist(), strict=True):
            before, line = lines[first], lines[second]
            if str(before.id) == str(line.id):
                raise InputError(
                    f"{lines.place(second)}: expected ids that differ, found {line.id!r} as in"
                    f" {lines.place(first)}; give one of them another id (without one, it is the"
                    " number of a line or row, or the name of a sample)"
                )


def decode(raw: bytes) -> Any:
    """The JSON value of a line. Raises InputError: it is not UTF-8, or not JSON."""
    try:
        return json.loads(raw.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise InputError(f"expected UTF-8, found other bytes ({error.reason})") from error
    except RecursionError as error:
        raise InputError("expected a JSON object, found one nested too deeply") from error
    except ValueError as error:
        raise InputError(
            f"expected a JSON object, found something else ({getattr(error, 'msg', error)})"
        ) from error


def id_of(value: Mapping[str, Any], default: str | int) -> str | int:
    """The id of a line. Raises InputError: it is neither text nor a whole number."""
    if "id" not in value:
        return default
    check_id(value["id"])
    return value["id"]


def regions_of(value: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The regions of a line, of a checked form. Raises InputError: they have another form."""
    regions = check_value("regions", value.get("regions"), Several, InputError)
    for region in regions:
        check_region(region)
    ids = [str(region["id"]) for region in regions if "id" in region]
    if len(set(ids)) != len(ids):
        raise InputError(f"regions: expected ids that differ, found {', '.join(ids)[:60]}")
    return regions


def _check_keys(value: Any) -> None:
    if not isinstance(value, dict):
        raise InputError(
            'expected an object such as {"image": "a.jpg", "regions": [{"mask": "m.png"}]}; found'
            f" {type(value).__name__}"
        )
    unknown = [key for key in value if key not in _KEYS]
    if unknown:
        raise InputError(f"unknown key {unknown[0]!r}; expected image, regions and perhaps id")
