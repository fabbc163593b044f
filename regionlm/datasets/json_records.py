"""Read large JSON files one record at a time: a list of records, or an object of such lists.

Annotation files of hundreds of megabytes become gigabytes of Python objects when loaded whole.
`scan` goes through a file once, in bounded memory. A `RecordTable` keeps where the records of each
image are, and reads them again when that image is needed. So a dataset opens in seconds, stays
small, and is cheap to send to a worker process.
"""

from __future__ import annotations

import json
import re
from array import array
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from regionlm.datasets.data_errors import DataError

CHUNK = 1 << 20  # bytes read at a time

# Not strict: phrases written by people contain raw control characters.
_DECODER = json.JSONDecoder(strict=False)
_BLANK = re.compile(r"[ \t\n\r]*")
_NUMBER_TAIL = len("e+0")  # if this much text follows a number, the number has ended
_BYTE_ORDER_MARK = "\xef\xbb\xbf"


class JsonRecord(NamedTuple):
    """One item of a list in a JSON file.

    key: key of its list; "" if the file itself is the list. start, length: its bytes in `file`.
    """

    file: Path
    key: str
    start: int
    length: int
    value: Any


def scan(file: Path) -> Iterator[JsonRecord]:
    """Yield, in file order, the items of a JSON list, or of all lists of a JSON object.

    Other values of the object are skipped. Raises DataError: not UTF-8, damaged, cut off, or
    neither a list nor an object.
    """
    with open(file, "rb") as stream:
        window = _Window(file, stream)
        if window.peek() == "[":
            yield from _items(window, "")
        else:
            yield from _lists(window)
        window.take("")


def _lists(window: _Window) -> Iterator[JsonRecord]:
    window.take("{")
    for _ in _entries(window, "}"):
        key = window.value("").value
        window.take(":")
        if window.peek() == "[":
            yield from _items(window, key)
        else:
            window.value(key)


def _items(window: _Window, key: str) -> Iterator[JsonRecord]:
    window.take("[")
    for _ in _entries(window, "]"):
        yield window.value(key)


def _entries(window: _Window, closing: str) -> Iterator[None]:
    """Stop before each entry of a list or object, and skip the punctuation between and after."""
    if window.peek() != closing:
        yield
    while window.peek() != closing:
        window.take(",")
        yield
    window.take(closing)


class _Window:
    """The part of a file that has been read but not parsed yet.

    Its text is decoded as Latin-1, one character for each byte, so positions in it are positions in
    the file. This is safe: no byte of a multi-byte UTF-8 character looks like JSON's punctuation.
    """

    def __init__(self, file: Path, stream: BinaryIO) -> None:
        self._file = file
        self._stream = stream
        self._text = ""
        self._at = 0  # in the text
        self._start = 0  # of the text, in the file
        self._more()
        if self._text.startswith(_BYTE_ORDER_MARK):
            self._at = len(_BYTE_ORDER_MARK)

    def peek(self) -> str:
        """Return the next character that is not blank; "" at the end of the file."""
        while True:
            match = _BLANK.match(self._text, self._at)
            assert match is not None  # it also matches the empty string
            self._at = match.end()
            if self._at < len(self._text):
                return self._text[self._at]
            if not self._more():
                return ""

    def take(self, expected: str) -> None:
        """Skip one character of punctuation; "" is the end of the file."""
        found = self.peek()
        if found != expected:
            names = [repr(text) if text else "the end" for text in (expected, found)]
            raise self._damaged(f"expected {names[0]}, found {names[1]}")
        self._at += len(expected)

    def value(self, key: str) -> JsonRecord:
        """Parse one value, reading on until it is complete."""
        self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._at)
            except json.JSONDecodeError as error:
                if not self._more():
                    raise self._damaged(error.msg) from error
                continue
            except (RecursionError, ValueError) as error:  # Python refuses 4300 digits
                raise self._damaged("nested too deeply, or a number too long") from error
            # A number may continue in the file: "1" or "1e+" at the end of the text is read as 1.
            if end + _NUMBER_TAIL <= len(self._text) or not self._more():
                break
        text = self._text[self._at : end]
        start, self._at = self._start + self._at, end
        if not text.isascii():
            value = _parse(text.encode("latin-1"), self._file)
        return JsonRecord(self._file, key, start, len(text), value)

    def _more(self) -> bool:
        """Drop the parsed part and read on, at least as much as is left, so long records are cheap.

        Returns False at the end of the file, and then changes nothing.
        """
        left = len(self._text) - self._at
        chunk = self._stream.read(max(CHUNK, left))
        if not chunk:
            return False
        self._start += self._at
        self._text = self._text[self._at :] + chunk.decode("latin-1")
        self._at = 0
        return True

    def _damaged(self, reason: str) -> DataError:
        place = self._start + self._at
        return DataError(
            f"{self._file} is not the JSON expected (byte {place}: {reason}): fetch it again"
        )


def _parse(raw: bytes, file: Path) -> Any:
    try:
        return json.loads(raw.decode("utf-8"), strict=False)
    except ValueError as error:  # both errors are: no UTF-8, no JSON
        raise DataError(
            f"{file} is not JSON in UTF-8, or changed after it was opened ({error}): fetch it again"
        ) from error


@dataclass(frozen=True, eq=False)
class RecordTable:
    """The places of each image's records.

    images: int64 [N], ascending. places: int64 [N, 3]: index in `files`, start and length in bytes;
    in file order for each image.
    """

    files: tuple[Path, ...]
    images: np.ndarray
    places: np.ndarray

    @property
    def name(self) -> str:
        """The names of the files, for messages."""
        return " or ".join(map(str, self.files))

    def of_image(self, image_id: int) -> list[Any]:
        """Read the records of an image in file order; DataError if the file has changed."""
        low, high = (np.searchsorted(self.images, image_id, side) for side in ("left", "right"))
        found = []
        for number, start, length in self.places[low:high].tolist():
            with open(self.files[number], "rb") as stream:
                stream.seek(start)
                found.append(_parse(stream.read(length), self.files[number]))
        return found


def whole_size(width: Any, height: Any, place: str) -> tuple[int, int]:
    """Return (W, H) in pixels; DataError unless both are whole numbers of at least 1."""
    if not all(type(side) is int and side > 0 for side in (width, height)):
        raise DataError(
            f"{place}: expected its width and height in whole pixels, found {width} and {height}:"
            " fetch it again"
        )
    return width, height


def whole_id(value: Any, place: str) -> int:
    """Return an id; DataError unless it is a whole number of 64 bits."""
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise DataError(
            f"{place}: expected a whole number below 2^63, found {str(value)[:40]!r}: fetch it"
            " again"
        )
    return value


class TableBuilder:
    """Builds a `RecordTable` while files are scanned."""

    def __init__(self) -> None:
        """Start without records."""
        self._files: dict[Path, int] = {}
        # 8 bytes a number, where a list of Python integers takes 40.
        self._images = array("q")
        self._places = array("q")

    def add(self, image_id: int, record: JsonRecord) -> None:
        """Add a record of an image; DataError if the id is no whole number."""
        place = f"{record.file}, {record.key or 'records'}: image_id"
        number = self._files.setdefault(record.file, len(self._files))
        self._images.append(whole_id(image_id, place))
        self._places.extend((number, record.start, record.length))

    def image_ids(self) -> list[int]:
        """Return the ids of all images, in the order of their first records."""
        return list(dict.fromkeys(self._images))

    def table(self) -> RecordTable:
        """Return the records grouped by image."""
        images = np.array(self._images, np.int64)
        places = np.array(self._places, np.int64).reshape(-1, 3)
        order = np.argsort(images, kind="stable")
        return RecordTable(tuple(self._files), images[order], places[order])
