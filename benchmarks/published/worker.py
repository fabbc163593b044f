"""What a worker process does for either side: compute rows into files, or answer timing requests.

The authors' packages need an old open_clip, so each side lives in an environment and a process of
its own; both run this same loop around their own :class:`Side`.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from .cases import Row

MAP_LEVELS = 65535  # maps in [0, 1] are kept as uint16: a step of 1.5e-5 where the bar is 1e-3


class Side(Protocol):
    """A model at one input size, ready to invert masks of the picture in ``cases``."""

    def invert(self, row: Row) -> dict[str, np.ndarray]:
        """Run a row; ``let`` [M, d], ``map`` [M, H, W] in [0, 1] and others."""

    def prepare_call(self, row: Row) -> Callable[[], Any]:
        """Everything made ready; calling the result is what gets timed. It gives the embeddings,
        a tensor ``[M, d]``."""


def main(build: Callable[[str, int, str], Side]) -> None:
    """``run FOLDER`` with rows as JSON on standard input, or ``time MODEL SIZE`` as a dialogue."""
    command, *arguments = sys.argv[1:]
    if command == "run":
        run_rows(build, [Row(**fields) for fields in json.load(sys.stdin)], Path(arguments[0]))
    else:
        answer_timings(build, arguments[0], int(arguments[1]))


def run_rows(build: Callable[[str, int, str], Side], rows: list[Row], folder: Path) -> None:
    """Write ``FOLDER/<row key>.npz`` for each row, whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    side, built = None, ("", 0, "")
    for row in rows:
        if side is None or (row.model, row.size, row.dtype) != built:
            side = None  # free the last model before the next is built
            built = (row.model, row.size, row.dtype)
            side = build(*built)
        start = time.perf_counter()
        arrays: dict[str, Any] = {
            name: pack(name, value) for name, value in side.invert(row).items()
        }
        seconds = time.perf_counter() - start
        partial = folder / f"{row.key}.partial.npz"
        np.savez_compressed(partial, seconds=seconds, **arrays)
        partial.rename(folder / f"{row.key}.npz")
        print(f"{seconds:8.1f} s  {row.key}", file=sys.stderr, flush=True)


def pack(name: str, value: np.ndarray) -> np.ndarray:
    """Maps become uint16, all else stays as it is."""
    if not name.startswith("map"):
        return value
    return np.round(value.astype(np.float64) * MAP_LEVELS).astype(np.uint16)


def answer_timings(build: Callable[[str, int, str], Side], model: str, size: int) -> None:
    """For each row that arrives as a JSON line: one timed call, its seconds as a JSON line back,
    with the embeddings, the highest memory of the process, and that above a model at rest.

    The first call of a process is a short one that nobody times: it pays for thread pools and
    for whatever a side computes once per model and size.
    """
    reply = sys.stdout
    sys.stdout = sys.stderr  # the packages print when they load; replies must stay readable
    side = build(model, size, "float32")
    before = _peak_gib()
    side.prepare_call(Row(model, size, 1, 0.0, 0.5, steps=2))()
    print("ready", file=reply, flush=True)
    for line in sys.stdin:
        call = side.prepare_call(Row(**json.loads(line)))
        start = time.perf_counter()
        found = call()
        seconds = time.perf_counter() - start
        answer = {"seconds": seconds, "peak_gib": _peak_gib(), "embeddings": found.tolist()}
        answer["extra_gib"] = answer["peak_gib"] - before
        print(json.dumps(answer), file=reply, flush=True)


def _peak_gib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20  # KiB on Linux


def rows_as_json(rows: list[Row]) -> str:
    """The rows as a worker's ``run`` reads them."""
    return json.dumps([asdict(row) for row in rows])
