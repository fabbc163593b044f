"""Wall time of the same call on both sides, in turns, so that a busy machine hurts both alike."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from .cases import Row
from .compare import BENCHMARKS, worker_environment


@dataclass(frozen=True)
class Setting:
    """What is timed: one model and input size, K = 10 steps, alpha 0, lr 0.5."""

    model: str
    size: int
    masks: tuple[int, ...]
    repeats: int
    threads: int


class TimingWorker:
    """A side's process: after ``wait`` its model is built and warm, and ``call`` times a row."""

    def __init__(self, python: Path, module: str, setting: Setting) -> None:
        arguments = ["time", setting.model, str(setting.size)]
        command = [str(python), "-m", f"published.{module}", *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=BENCHMARKS,
            env=worker_environment(module, setting.threads),
        )

    def wait(self) -> None:
        """Return when the process is ready and no longer busy."""
        self._answer()

    def call(self, row: Row) -> dict[str, Any]:
        """``seconds`` of the call alone; ``peak_gib``, the process's highest memory so far, and
        ``extra_gib``, what of that was not in use before its first call; the ``embeddings``."""
        assert self.process.stdin is not None
        print(json.dumps(asdict(row)), file=self.process.stdin, flush=True)
        return json.loads(self._answer())

    def close(self) -> None:
        """End the process by ending its input."""
        self.process.communicate()

    def _answer(self) -> str:
        assert self.process.stdout is not None
        answer = self.process.stdout.readline()
        if not answer:
            raise RuntimeError(f"a timing worker ended early, exit code {self.process.wait()}")
        return answer


def time_both(authors_python: Path, setting: Setting) -> None:
    """Print a table: medians, their ratio and the peak memory of each side's process.

    New processes for every number of masks, so that a peak belongs to that number; within them the
    calls alternate, authors' first.
    """
    print(
        f"{setting.model}, {setting.size} px, K = 10, float32, {setting.threads} threads;"
        f" median of {setting.repeats} (all calls), the call only\n"
    )
    print("| masks | authors' code, s | regionlm, s | ratio | authors' peak | regionlm's peak |")
    print("|---|---|---|---|---|---|", flush=True)
    for masks in setting.masks:
        row = Row(setting.model, setting.size, masks, 0.0, 0.5)
        workers = [
            TimingWorker(authors_python, "authors_side", setting),
            TimingWorker(Path(sys.executable), "our_side", setting),
        ]
        for worker in workers:
            worker.wait()
        theirs, ours = take_turns(workers, row, setting.repeats)
        for worker in workers:
            worker.close()
        _print_line(masks, theirs, ours)


def take_turns(
    workers: Sequence[TimingWorker], row: Row, repeats: int
) -> list[list[dict[str, Any]]]:
    """Each worker's answers to ``repeats`` calls of the row, one worker after the other."""
    answers: list[list[dict[str, Any]]] = [[] for _ in workers]
    for _ in range(repeats):
        for worker, own in zip(workers, answers, strict=True):
            time.sleep(0.5)  # the others' idle threads spin for a moment before they sleep
            own.append(worker.call(row))
    return answers


def _print_line(masks: int, theirs: list[dict[str, Any]], ours: list[dict[str, Any]]) -> None:
    cells, medians = [], []
    for side in (theirs, ours):
        seconds = [answer["seconds"] for answer in side]
        medians.append(statistics.median(seconds))
        cells.append(f"{medians[-1]:.2f} ({', '.join(f'{s:.2f}' for s in seconds)})")
    peaks = [f"{max(answer['peak_gib'] for answer in side):.1f} GiB" for side in (theirs, ours)]
    ratio = f"{medians[0] / medians[1]:.2f}"
    print(f"| {masks} | {' | '.join(cells)} | {ratio} | {' | '.join(peaks)} |", flush=True)
