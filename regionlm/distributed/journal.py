"""Answers on disk: a file per process with a line per item, so that a stopped run loses nothing.

Where processes come and go, each writes the answers of a few items at once, as a shard.

The result of a run is made from these lines alone, in the order of the items. Therefore neither the
number of processes nor a stop changes a digit of it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from array import array
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from regionlm.distributed.run_folder import SETTINGS, open_folder
from regionlm.files import write_atomically, writing

Answer = dict[str, Any]
"""The result of one item, as JSON values."""

_STOP = "stop"
_BAD = 4  # column of `Journal._index`


class Journal:
    """The answers of one run, in its folder.

    All processes of a run may open it at the same time.

    Args:
        folder: created if missing, with its parents.
        settings: JSON values that the answers depend on, with paths as text. A folder with other
            settings is refused.
        is_bad: whether an answer says that its item could not be read. Such an item counts as not
            done, and the next start reads it again.

    Raises:
        InputError: the folder holds a run with other settings, or other files, or is not writable.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, Any],
        is_bad: Callable[[Answer], bool] = lambda answer: False,
    ) -> None:
        self.folder, self._is_bad = folder, is_bad
        open_folder(folder, settings, _is_own)

    def done(self) -> np.ndarray:
        """Numbers of the finished items, int64 ``[N]``, ascending."""
        _, places = self._index()
        return places[places[:, _BAD] == 0, 0]

    def answers(self) -> Iterator[tuple[int, Answer]]:
        """All answers with the numbers of their items, ascending; one is in memory at a time."""
        files, places = self._index()
        streams = [file.open("rb") for file in files]
        try:
            for place in places:
                number, which, start, length, _ = place.tolist()
                streams[which].seek(start)
                answer = json.loads(streams[which].read(length))
                del answer["index"]
                yield number, answer
        finally:
            for stream in streams:
                stream.close()

    def writer(self, process: int) -> JournalWriter:
        """The file to which the process of this number writes its answers."""
        return JournalWriter(self.folder / f"answers-{process:05d}.jsonl")

    def write_shard(self, lines: Mapping[int, bytes]) -> None:
        """Write the answers of some items, whole or not at all, to a file that is theirs alone.

        lines: of `journal_line`, by the numbers of their items.

        Raises InputError: the folder is not writable.
        """
        which = hashlib.sha256(np.array(sorted(lines), np.int64).tobytes()).hexdigest()[:16]
        path = self.folder / f"answers-{min(lines):05d}-{which}.jsonl"
        write_atomically(path, lambda aside: aside.write_bytes(b"".join(lines.values())))

    def ask_to_stop(self) -> None:
        """Tell all processes of the run to stop at their next item."""
        (self.folder / _STOP).touch()

    def start_again(self) -> None:
        """Undo `ask_to_stop`, and drop the answers of items that could not be read.

        Raises:
            InputError: the folder is not writable.
        """
        (self.folder / _STOP).unlink(missing_ok=True)
        files, places = self._index()
        for which in np.unique(places[places[:, _BAD] == 1, 1]).tolist():
            write_atomically(files[which], partial(self._copy_good, files[which]))

    @property
    def stopped(self) -> bool:
        """Whether a process has asked all to stop."""
        return (self.folder / _STOP).exists()

    def discard_if_empty(self) -> None:
        """Remove the folder of a run without answers, so that other settings may use it."""
        if len(self.done()):
            return
        for path in [entry for entry in self.folder.iterdir() if _is_own(entry.name)]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # it holds other files
            self.folder.rmdir()

    def _index(self) -> tuple[list[Path], np.ndarray]:
        """Files, and where the answers are in them.

        Each row of the int64 ``[N, 5]`` has the number of the item, the index of the file, the
        start and length in bytes, and 1 if the item could not be read, else 0.
        """
        files = sorted(self.folder.glob("answers-*.jsonl"))
        found = array("q")  # 40 bytes an answer
        for which, file in enumerate(files):
            start = 0
            with file.open("rb") as stream:
                for line in stream:
                    answer = _parsed(line)
                    if answer is not None:
                        is_bad = int(self._is_bad(answer))
                        found.extend((answer["index"], which, start, len(line), is_bad))
                    start += len(line)
        places = np.array(found, np.int64).reshape(-1, _BAD + 1)
        _, first = np.unique(places[:, 0], return_index=True)
        return files, places[first]

    def _copy_good(self, source: Path, target: Path) -> None:
        with source.open("rb") as lines, target.open("wb") as kept:
            for line in lines:
                answer = _parsed(line)
                if answer is not None and not self._is_bad(answer):
                    kept.write(line)


class JournalWriter:
    """Appends answers; each is on disk before the next is computed.

    Raises:
        InputError: the file is not writable.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        with writing(path):
            self._file = path.open("ab")
            if self._file.tell():  # a killed process may have left half a line
                self._file.write(b"\n")

    def write(self, number: int, answer: Answer) -> None:
        """Append the answer for the item of this number."""
        with writing(self._path):
            self._file.write(journal_line(number, answer))
            self._file.flush()
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        with contextlib.suppress(OSError):  # `write` has reported it
            self._file.close()


def journal_line(number: int, answer: Answer) -> bytes:
    """How a journal writes the answer for the item of this number."""
    return json_line({"index": number, **answer})


def json_line(value: Mapping[str, Any], indent: int | None = None) -> bytes:
    """JSON in UTF-8 with a final line break; one line unless indented."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # a lone surrogate, as in names of files that are not UTF-8
        return json.dumps(value, indent=indent).encode() + b"\n"


def _parsed(line: bytes) -> Answer | None:
    try:
        answer = json.loads(line)
    except ValueError:
        return None  # a killed process left half a line; its item is done again
    return answer if isinstance(answer, dict) and "index" in answer else None


def _is_own(name: str) -> bool:
    """Whether a file is of a run; another process may be about to rename a ``.part`` file."""
    is_aside = name.startswith(".") and name.endswith(".part")
    return is_aside or name in (SETTINGS, _STOP) or name.startswith("answers-")
