"""Answers on disk: one file a process, one line an item, so that nothing done is lost.

What a run gives in the end is made from these lines alone, in the order of the items, so neither
the number of processes nor a stop and a resumption can change a digit of it.
"""

from __future__ import annotations

import contextlib
import json
import os
from array import array
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from regionlm.errors import InputError
from regionlm.outputs import unwritable, write_atomically
from regionlm.runs.settings import check_same

Answer = dict[str, Any]
"""What an item gave: JSON values only."""

SETTINGS = "run.json"
_STOP = "stop"


class Journal:
    """The folder of one run.

    All processes of a run may open it at once.

    Args:
        folder: made if missing; the folder above it is not.
        settings: JSON values that decide the answers; a folder of other settings is refused.

    Raises:
        InputError: the folder holds a run of other settings, or something that is no run, or can't
            be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        text = json.dumps(settings, indent=2, sort_keys=True)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            others = [entry.name for entry in folder.iterdir() if not _is_own(entry.name)]
        except OSError as error:
            raise unwritable(folder, error) from error
        path = folder / SETTINGS
        if not path.exists():
            if others:
                raise InputError(
                    f"output folder {folder}: expected an empty one or an earlier run's, found"
                    f" other files such as {others[0]}; give another --output"
                )
            write_atomically(path, partial(Path.write_text, data=text, encoding="utf-8"))
        # Read even if just written: another process may have put its own there in between.
        check_same(folder, json.loads(path.read_text(encoding="utf-8")), json.loads(text))

    def done(self) -> np.ndarray:
        """Numbers of the finished items, int64, ascending."""
        return self._index()[1][:, 0]

    def answers(self) -> Iterator[tuple[int, Answer]]:
        """All finished items with their numbers, ascending; one is in memory at a time."""
        files, places = self._index()
        streams = [file.open("rb") for file in files]
        try:
            for place in places:
                number, which, start, length = place.tolist()
                streams[which].seek(start)
                answer = json.loads(streams[which].read(length))
                del answer["index"]
                yield number, answer
        finally:
            for stream in streams:
                stream.close()

    def writer(self, process: int) -> JournalWriter:
        """Where the process of this number puts its answers."""
        return JournalWriter(self.folder / f"answers-{process:05d}.jsonl")

    def ask_to_stop(self) -> None:
        """Tell all processes of the run to leave the rest of their items."""
        (self.folder / _STOP).touch()

    def forget_stop(self) -> None:
        """Take `ask_to_stop` back: the run starts again."""
        (self.folder / _STOP).unlink(missing_ok=True)

    @property
    def stopped(self) -> bool:
        """Whether a process asked all to stop."""
        return (self.folder / _STOP).exists()

    def discard_if_empty(self) -> None:
        """Leave no folder behind if nothing was answered, so that other settings may be tried."""
        if len(self.done()):
            return
        for path in [entry for entry in self.folder.iterdir() if _is_own(entry.name)]:
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # something else is in it
            self.folder.rmdir()

    def _index(self) -> tuple[list[Path], np.ndarray]:
        """Where answers lie: files, and int64 ``[N, 4]`` of number, file, start and bytes."""
        files = sorted(self.folder.glob("answers-*.jsonl"))
        found = array("q")  # 32 bytes an answer
        for which, file in enumerate(files):
            start = 0
            with file.open("rb") as stream:
                for line in stream:
                    number = _number(line)
                    if number is not None:
                        found.extend((number, which, start, len(line)))
                    start += len(line)
        places = np.array(found, np.int64).reshape(-1, 4)
        _, first = np.unique(places[:, 0], return_index=True)
        return files, places[first]


class JournalWriter:
    """Appends answers; each is on disk before the next is computed.

    Raises:
        InputError: the system refuses to write.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = path.open("ab")
            if self._file.tell():  # a killed process may have left half a line
                self._file.write(b"\n")
        except OSError as error:
            raise unwritable(path, error) from error

    def write(self, number: int, answer: Answer) -> None:
        """Append the answer of the item of this number."""
        try:
            self._file.write(json_line({"index": number, **answer}))
            self._file.flush()
            os.fsync(self._file.fileno())
        except OSError as error:
            raise unwritable(self._path, error) from error

    def close(self) -> None:
        """Nothing more to write."""
        with contextlib.suppress(OSError):  # what could not be flushed has been complained about
            self._file.close()


def json_line(value: Mapping[str, Any]) -> bytes:
    """One line of JSON, UTF-8, ending in a line break."""
    try:
        return json.dumps(value, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:  # the name of a file that is not UTF-8
        return json.dumps(value).encode() + b"\n"


def _number(line: bytes) -> int | None:
    try:
        return json.loads(line)["index"]
    except (ValueError, TypeError, KeyError):
        return None  # half a line of a killed process: that item is done again


def _is_own(name: str) -> bool:
    """Files of a run; ``.part``: what another process of it is about to put in place."""
    is_aside = name.startswith(".") and name.endswith(".part")
    return is_aside or name in (SETTINGS, _STOP) or name.startswith("answers-")
