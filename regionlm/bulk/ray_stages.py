"""What the workers of a Ray cluster do with lines: read and decode, caption, write.

An error that the user can cause travels on as a value: raised in a worker, it would end in Ray's
words, and only after Ray had tried again.
"""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import numpy as np

from regionlm.bulk.items import Pictures
from regionlm.bulk.request import Request
from regionlm.distributed.items import USERS_ERRORS, answer_to, read_item
from regionlm.distributed.journal import Answer, Journal, journal_line

Row = dict[str, Any]
Batch = dict[str, Any]


class Decode:
    """Reads the images and regions of lines, ``{"start", "stop"}`` of `numbers`, one at a time.

    Args:
        pictures: all lines.
        numbers: those to do, int64 ``[N]``.
        folder: from which relative paths start.
    """

    def __init__(self, pictures: Pictures, numbers: np.ndarray, folder: str) -> None:
        self._pictures, self._numbers, self._folder = pictures, numbers, folder

    def __call__(self, batch: Batch) -> Iterator[Batch]:
        """Yield ``{"number", "read"}`` of each line, the latter a pickled `Read`."""
        _enter(self._folder)
        for start, stop in zip(batch["start"], batch["stop"], strict=True):
            for number in self._numbers[start:stop].tolist():
                read = read_item(self._pictures, number)
                yield {"number": [number], "read": [pickle.dumps(read)]}


class Caption:
    """Captions the regions of one line at a time, on a device of its own.

    Args:
        request: what writes the captions, and how.
        pictures: all lines.
        device: as torch calls it.
        threads: to compute with.
        folder: from which relative paths start.
    """

    def __init__(
        self, request: Request, pictures: Pictures, device: str, threads: int, folder: str
    ) -> None:
        import torch

        _enter(folder)
        torch.set_num_threads(threads)
        self._unreadable = pictures.unreadable if pictures.skip_bad else None
        self._error: Exception | None = None
        self._answer: Callable[[int, Any], Answer] | None = None
        try:
            self._answer = request.load(device)
        except USERS_ERRORS as error:
            self._error = error

    def __call__(self, row: Row) -> Row:
        """Return ``{"number", "line", "error"}``: a line of the journal, or a pickled error."""
        number = row["number"]
        try:
            if self._answer is None:
                assert self._error is not None
                raise self._error
            answer = answer_to(pickle.loads(row["read"]), self._answer, self._unreadable)
        except USERS_ERRORS as error:
            return {"number": number, "line": b"", "error": pickle.dumps(error)}
        return {"number": number, "line": journal_line(number, answer), "error": b""}


class Write:
    """Writes a shard of answers, and lets errors pass.

    Args:
        journal: to which the shards belong.
        folder: from which relative paths start.
    """

    def __init__(self, journal: Journal, folder: str) -> None:
        self._journal, self._folder = journal, folder

    def __call__(self, batch: Batch) -> Batch:
        """Return ``{"error"}``, empty for a line that is written."""
        _enter(self._folder)
        lines = {
            int(number): bytes(line)
            for number, line in zip(batch["number"], batch["line"], strict=True)
            if line
        }
        errors = [bytes(error) for error in batch["error"]]
        try:
            if lines:
                self._journal.write_shard(lines)
        except USERS_ERRORS as error:
            errors = [pickle.dumps(error)] * len(errors)
        return {"error": errors}


def _enter(folder: str) -> None:
    """Ray starts workers wherever it likes, and perhaps on a machine without that folder."""
    with suppress(OSError):
        os.chdir(folder)
