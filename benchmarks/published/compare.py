"""Rows of both sides, held against each other and against the bar."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from .cases import Row
from .worker import MAP_LEVELS, rows_as_json

MIN_COSINE = 0.99999
MAX_MAP_DIFFERENCE = 1e-3
BENCHMARKS = Path(__file__).resolve().parents[1]
HEADER = (
    "| model | size | masks | alpha | lr | min LET cosine | max map difference | within the bar |\n"
    "|---|---|---|---|---|---|---|---|"
)


def run_side(python: Path, module: str, rows: list[Row], folder: Path, threads: int) -> None:
    """Compute rows in a worker process; ``folder`` then has a file for each."""
    if not rows:
        return
    command = [str(python), "-m", f"published.{module}", "run", str(folder)]
    environment = worker_environment(module, threads)
    subprocess.run(
        command, input=rows_as_json(rows), text=True, check=True, cwd=BENCHMARKS, env=environment
    )


def worker_environment(module: str, threads: int) -> dict[str, str]:
    """This process's environment with a fixed number of threads; but for the authors' side, this
    very checkout in it."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "PYTHONWARNINGS": "ignore"}
    if module != "authors_side":
        paths = [str(BENCHMARKS.parent), os.environ.get("PYTHONPATH", "")]
        environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    return environment


def compare_rows(
    rows: list[Row], authors: Path, ours: Path, compute: Callable[[list[Row]], None]
) -> int:
    """Print a table line for each row as soon as both sides have it; the number out of bounds.

    ``compute`` makes the files of the rows it is given that are not there yet.
    """
    print(HEADER, flush=True)
    failed = 0
    for batch in by_model_and_size(rows):
        compute(batch)
        for row in batch:
            with load(authors, row) as theirs, load(ours, row) as mine:
                cosine, difference = distance(theirs, mine)
            good = cosine >= MIN_COSINE and difference <= MAX_MAP_DIFFERENCE
            failed += not good
            print(
                f"| {row.model} | {row.size} | {row.masks} | {row.alpha:g} | {row.lr:g}"
                f" | {cosine:.8f} | {difference:.1e} | {'yes' if good else '**no**'} |",
                flush=True,
            )
    print(f"\n{len(rows) - failed} of {len(rows)} rows within the bar", file=sys.stderr)
    return failed


def distance(
    theirs: Mapping[str, np.ndarray], mine: Mapping[str, np.ndarray]
) -> tuple[float, float]:
    """Smallest cosine between LETs of the same mask, and largest difference between maps.

    Both maps belong to the embedding after the last step (see ``authors_side``), each side's to its
    own embedding, and are compared at every pixel of the mask.
    """
    maps = [side["map"].astype(np.float64) / MAP_LEVELS for side in (theirs, mine)]
    return cosines(theirs["let"], mine["let"]).min(), abs(maps[0] - maps[1]).max()


def cosines(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Cosine of each row of ``a`` with that of ``b``, in float64."""
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def load(folder: Path, row: Row) -> np.lib.npyio.NpzFile:
    """The stored arrays of a row."""
    return np.load(folder / f"{row.key}.npz")


def by_model_and_size(rows: list[Row]) -> list[list[Row]]:
    """Rows in their order, cut where the model or the size changes."""
    batches: list[list[Row]] = []
    for row in rows:
        if not batches or (batches[-1][0].model, batches[-1][0].size) != (row.model, row.size):
            batches.append([])
        batches[-1].append(row)
    return batches
