"""The end of a run: its output and its summary."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from regionlm.bulk.manifest import Lines
from regionlm.distributed.journal import Answer, Journal, json_line
from regionlm.errors import InputError
from regionlm.files import write_atomically

NAMED = 20  # how many skipped images and regions a summary names


@dataclass
class Summary:
    """Counts of a finished run.

    lines: lines of the output.
    images, regions: captioned by this start of the run.
    earlier: images captioned by earlier starts.
    bad: images and regions that could not be read, in all starts.
    named: the first of these, such as "line 3, region m.png: why".
    seconds: time since the models were loaded.
    """

    lines: int = 0
    images: int = 0
    regions: int = 0
    earlier: int = 0
    bad: int = 0
    named: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def __str__(self) -> str:
        """Counts and throughput, in one line."""
        seconds = max(self.seconds, 1e-9)
        text = (
            f"{self.regions} regions of {self.images} images in {self.seconds:.1f} s:"
            f" {self.regions / seconds:.2f} regions/s, {self.images / seconds:.2f} images/s"
        )
        if self.earlier:
            text += f"; {self.earlier} images were done before"
        return text + (f"; {self.bad} skipped" if self.bad else "")

    def count(self, answer: Answer, place: str, is_new: bool) -> None:
        """Count one line of the output. place: file and number of the line, for messages."""
        rows = answer.get("regions", [])
        reasons = [f"{place}: {answer['error']}"] if "error" in answer else []
        reasons += [
            f"{place}, region {row['region']}: {row['error']}" for row in rows if "error" in row
        ]
        self.lines += 1
        self.bad += len(reasons)
        self.named += reasons[: NAMED - len(self.named)]
        if is_new:
            self.images += "error" not in answer
            self.regions += sum("error" not in row for row in rows)
        else:
            self.earlier += 1


def is_parquet(output: Path) -> bool:
    """Whether the name of an output asks for Parquet."""
    return output.suffix.lower() == ".parquet"


def write_output(output: Path, journal: Journal, manifest: Lines, before: np.ndarray) -> Summary:
    """Write the output: a line for each line of the manifest, in the same order.

    The file is written completely or not at all: as Parquet if its name ends so, else as JSON
    lines.

    before: indices of lines that earlier starts have done, int64 ``[N]``.

    Raises InputError: answers are missing, or the file is not writable.
    """
    is_new = np.ones(len(manifest), bool)
    is_new[before] = False
    summary = Summary()

    def counted() -> Iterator[Answer]:
        for index, answer in journal.answers():
            yield answer
            summary.count(answer, manifest.place(index), bool(is_new[index]))
        if summary.lines != len(manifest):
            raise InputError(
                f"{journal.folder}: expected answers for {len(manifest)} lines, found"
                f" {summary.lines};"
                " do all processes see this folder?"
            )

    def write(path: Path) -> None:
        with path.open("wb") as stream:
            if is_parquet(output):
                from regionlm.bulk.parquet_output import columns, write_parquet

                write_parquet(stream, columns(one for _, one in journal.answers()), counted())
            else:
                stream.writelines(map(json_line, counted()))
            stream.flush()
            os.fsync(stream.fileno())  # before `caption_manifest` removes the answers

    write_atomically(output, write)
    return summary
