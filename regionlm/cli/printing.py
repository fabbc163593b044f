"""Printing of any text: file names need not be Unicode, and standard output need not be UTF-8."""

from __future__ import annotations

import codecs
import io
import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from regionlm.errors import InputError

_ERRORS = "regionlm-names"


def print_json(answer: dict[str, Any]) -> None:
    """Print one line of JSON, in ASCII where standard output can't take the characters."""
    text = json.dumps(answer, ensure_ascii=False)
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        text = json.dumps(answer)
    print(text)


@contextmanager
def whole_output() -> Iterator[None]:
    """Make sure that all that is printed inside arrives, without a UnicodeEncodeError.

    Bytes of a file name that are not Unicode are written as they are; characters that the encoding
    lacks are written as escapes, such as ``\\xe9``.

    Raises:
        InputError: standard output is closed.
    """
    stream = sys.stdout
    if stream is None:  # as Python has it where the shell closed it
        raise InputError("standard output is closed: open it, or send it to /dev/null")
    if not isinstance(stream, io.TextIOWrapper) or stream.errors not in (
        "strict",
        "surrogateescape",
    ):
        yield
        return
    before = stream.errors
    codecs.register_error(_ERRORS, _written)
    stream.reconfigure(errors=_ERRORS)
    try:
        yield
    finally:
        with suppress(OSError):  # it flushes; what can't be written has been complained about
            stream.reconfigure(errors=before)


def _written(error: UnicodeError) -> tuple[str | bytes, int]:
    """The replacement for the first character that can't be encoded, and where to continue."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    code = ord(error.object[error.start])
    if 0xDC80 <= code <= 0xDCFF and not error.encoding.startswith("utf-16"):
        return bytes([code - 0xDC00]), error.start + 1
    return error.object[error.start].encode("ascii", "backslashreplace").decode(), error.start + 1
