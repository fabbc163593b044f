"""A run's answers on disk: one file a process, one line an image, so that nothing done is lost.

What a run reports is computed from these lines alone, in the order of the dataset, so neither the
number of processes nor a stop and a resumption can change a digit of it.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from eval.errors import DataError
from eval.tasks.task import Record
from regionlm.outputs import write_atomically

SETTINGS = "run.json"


@dataclass(frozen=True)
class Answer:
    """What one image gave: records, or in `bad` why it could not be read."""

    index: int
    image: str
    records: list[Record]
    bad: str | None = None


class Journal:
    """The folder of one run.

    Args:
        folder: made if missing.
        settings: JSON values that decide the answers; a folder of other settings is refused.

    Raises:
        DataError: the folder holds a run of other settings, or something that is no run.
    """

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(settings, indent=2, sort_keys=True)
        path = folder / SETTINGS
        if path.exists():
            self._check_same(path.read_text(encoding="utf-8"), text)
        elif any(folder.iterdir()):
            raise DataError(
                f"output folder {folder}: expected an empty one or an earlier run's, found other"
                " files; give another --output"
            )
        else:
            write_atomically(path, partial(Path.write_text, data=text, encoding="utf-8"))

    def answers(self) -> dict[int, Answer]:
        """All finished images by index, in the dataset's order."""
        found: dict[int, Answer] = {}
        for path in sorted(self.folder.glob("answers-*.jsonl")):
            found.update((answer.index, answer) for answer in _read(path))
        return dict(sorted(found.items()))

    def writer(self, process: int) -> JournalWriter:
        """Where the process of this number puts its answers."""
        return JournalWriter(self.folder / f"answers-{process:05d}.jsonl")

    def _check_same(self, stored: str, wanted: str) -> None:
        if stored == wanted:
            return
        before, now = json.loads(stored), json.loads(wanted)
        changed = [key for key in sorted({*before, *now}) if before.get(key) != now.get(key)]
        raise DataError(
            f"output folder {self.folder}: holds a run with other settings ("
            + "; ".join(f"{key} was {before.get(key)}, is {now.get(key)}" for key in changed)
            + "); give another --output, or delete it to start anew"
        )


class JournalWriter:
    """Appends answers; each is on disk before the next is computed."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab")
        if self._file.tell():  # a killed process may have left half a line
            self._file.write(b"\n")

    def write(self, answer: Answer) -> None:
        """Append one line."""
        self._file.write(json.dumps(asdict(answer), ensure_ascii=False).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Nothing more to write."""
        self._file.close()


def _read(path: Path) -> Iterator[Answer]:
    for line in path.read_bytes().splitlines():
        try:
            fields = json.loads(line)
            yield Answer(**fields)
        except (ValueError, TypeError):
            continue  # half a line of a killed process: that image is computed again
