"""Lines of a log, written beside the service's work."""

from __future__ import annotations

import json
import os
import queue
import sys
import threading
from io import RawIOBase
from typing import Any

from regionlm.errors import InputError

_MOST_WAITING = 10_000
_CLOSING_SECONDS = 2.0


def open_log(path: str | None) -> LogLines:
    """Lines are added to the end of a file; None: written to standard error.

    Raises:
        InputError: a file that can't be written.
    """
    if path is None and sys.stderr is None:  # closed by who started us
        path = os.devnull
    try:
        file = sys.stderr.fileno() if path is None else path
        return LogLines(open(file, "ab", buffering=0, closefd=path is not None))
    except OSError as error:
        raise InputError(
            f"log: {path} can't be written ({error.strerror}); take another"
        ) from error


class LogLines:
    """Writes JSON lines from a thread of its own.

    A full disk, a closed stream or a reader that does not read neither fails nor delays who logs:
    lines are lost then, and their number is told (`{"lost": 3}`) once writing works again.

    Args:
        stream: unbuffered, such as `open(path, "ab", buffering=0)`.
    """

    def __init__(self, stream: RawIOBase) -> None:
        self._stream, self._lost = stream, 0
        self._waiting: queue.Queue[str | None] = queue.Queue(_MOST_WAITING)
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def write(self, record: dict[str, Any]) -> None:
        """Have a record written soon."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="log lines", daemon=True)
                self._thread.start()
        self._put(json.dumps(record))

    def close(self) -> None:
        """Wait until all is written, though not for long."""
        if self._thread is not None:
            self._put(None)
            self._thread.join(_CLOSING_SECONDS)
            self._thread = None

    def _put(self, line: str | None) -> None:
        try:
            self._waiting.put_nowait(line)
        except queue.Full:
            self._lost += 1

    def _work(self) -> None:
        while (line := self._waiting.get()) is not None:
            lost = self._lost
            told = json.dumps({"lost": lost}) + "\n" if lost else ""
            if self._write(f"{told}{line}\n".encode()):
                self._lost -= lost
            else:
                self._lost += 1

    def _write(self, line: bytes) -> bool:
        try:
            return self._stream.write(line) == len(line)
        except (OSError, ValueError):  # ValueError: the stream is closed
            return False
