"""The engine beside the authors' code: equality, time and memory of each case, and its own rates.

    python benchmarks/engine.py --keep runs/engine.json                    # all cases, hours
    python benchmarks/engine.py --keep runs/engine.json --case b16-10      # one, then all so far
    python benchmarks/engine.py --keep runs/engine.json --case rates growth
    python benchmarks/engine.py --keep runs/try.json --case tiny-3 --repeats 1

Cases of a model and a number of masks run both sides, each in a fresh process, in turns. Their
vectors are compared at the first turn, before a second one is timed. Their median cosine must be
0.99999; in float32, a mask whose gradients are within rounding of zero may have less, as the
authors' code with itself (README.md). Ours may differ somewhat in
cases of ``speed="fast"``, whose smallest cosine is that of masks of four patches or more. The
authors' time grows linearly with the masks, so for 100 masks theirs is ten times that of 10, and so
is its memory.
``rates`` compares the arithmetic of the trunk and of the loop with the machine's best matrix
product, ``growth`` fits how the loop's time grows with masks and tokens. A case that the file has
already is not measured again.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from published.cases import VISION, Row, mask_arrays
from published.compare import MIN_COSINE, cosines
from published.engine_rates import growth, rates
from published.environment import authors_python, default_folder
from published.timing import Setting, TimingWorker


@dataclass(frozen=True)
class Case:
    """Both sides on one model; ``ratio`` and ``memory``: what is aimed at."""

    model: str
    size: int
    masks: int
    ratio: float = 0.0
    memory: float = float("inf")
    speed: str = "exact"
    lr: float = 0.5
    alike: bool = True  # whether both sides should find the same vectors

    @property
    def published_masks(self) -> int:
        """How many of the masks the authors' side is given."""
        return min(self.masks, 10)


CASES = {
    "tiny-3": Case("tiny", 64, 3),
    "b16-1": Case("ViT-B-16", 448, 1, 2.9, 0.5),
    "b16-10": Case("ViT-B-16", 448, 10, 7.5, 0.2),
    "b16-100": Case("ViT-B-16", 448, 100, 14, 0.03),
    "l14-10": Case("ViT-L-14", 448, 10, 7, 0.2),
    # Their SigLIP code explains the sum of all masks' vectors: published_pooled.py compares maps.
    "siglip-10": Case("ViT-B-16-SigLIP", 448, 10, 7.5, 0.2, alike=False),
    "tiny-siglip-3": Case("tiny-siglip", 64, 3, alike=False),
    "tiny-3-fast": Case("tiny", 128, 3, speed="fast", lr=0.1),
    "b16-1-fast": Case("ViT-B-16", 448, 1, 3.3, speed="fast", lr=0.1),
    "b16-10-fast": Case("ViT-B-16", 448, 10, 20, speed="fast", lr=0.1),
}
LEAST_COSINE = 0.999  # of any mask in float32
FAST_MEAN, FAST_LEAST = 0.98, 0.97  # cosines of fast vectors; the least is of masks of 4 patches
MACHINE = ("rates", "growth")


def main() -> int:
    """Measure what is missing, print all; 1 if vectors differ."""
    options = parse_options()
    found: dict[str, Any] = {}
    if options.keep.exists():
        found = json.loads(options.keep.read_text(encoding="utf-8"))
    for name in options.case:
        if name in found and not options.anew:
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        if name == "rates":
            found[name] = rates(options.model, options.size, options.threads)
        elif name == "growth":
            found[name] = growth(options.model, options.size, options.threads)
        else:
            found[name] = measure(CASES[name], options)
        found[name]["load"] = os.getloadavg()[0]
        options.keep.parent.mkdir(parents=True, exist_ok=True)
        options.keep.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    print(report(found))
    return int(any(differs(case, found[name]) for name, case in CASES.items() if name in found))


def differs(case: Case, one: dict[str, Any]) -> bool:
    """Whether a case's vectors are out of bounds."""
    if "mean_cosine" in one:
        return one["mean_cosine"] < FAST_MEAN or one["cosine"] < FAST_LEAST
    if not case.alike:
        return False
    return one["cosine"] < LEAST_COSINE or one["median_cosine"] < MIN_COSINE


def measure(case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and peaks of both sides, the authors' first."""
    setting = Setting(case.model, case.size, (), options.repeats, options.threads)
    theirs = authors_python(options.env or default_folder() / "venv")
    counts = (case.published_masks, case.masks)
    workers = [
        TimingWorker(theirs, "authors_side", setting),
        TimingWorker(Path(sys.executable), "our_side", setting),
    ]
    answers: list[list[dict[str, Any]]] = [[], []]
    for worker in workers:
        worker.wait()
    for _ in range(options.repeats):
        for worker, count, own in zip(workers, counts, answers, strict=True):
            row = Row(
                case.model, case.size, count, 0.0, case.lr,
                speed=case.speed, mean_over=case.published_masks,
            )  # fmt: skip
            own.append(worker.call(row))
    for worker in workers:
        worker.close()
    both = [np.array(side[0]["embeddings"])[: case.published_masks] for side in answers]
    near = cosines(*both)
    mean = {"median_cosine": float(np.median(near))}
    if case.speed == "fast":
        mean = {"mean_cosine": float(near.mean())}
        patches = (
            mask_arrays(len(near)).mean((1, 2))
            * (case.size / VISION[case.model]["patch_size"]) ** 2
        )
        near = near[patches >= 4]
    return {
        "threads": options.threads,
        "cosine": float(near.min()),
        **mean,
        "seconds": [[answer["seconds"] for answer in side] for side in answers],
        "extra_gib": [max(answer["extra_gib"] for answer in side) for side in answers],
    }


def report(found: dict[str, Any]) -> str:
    """Markdown of all that was measured."""
    lines = [
        "| case | smallest cosine | published, s | ours, s | published / ours | aim"
        " | published, extra GiB | ours | ours / published | aim | load |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [_line(name, case, found[name]) for name, case in CASES.items() if name in found]
    lines += [text for name in MACHINE if name in found for text in ("", *found[name]["lines"])]
    return "\n".join(lines)


def _line(name: str, case: Case, one: dict[str, Any]) -> str:
    scale = case.masks / case.published_masks
    theirs, ours = (statistics.median(seconds) for seconds in one["seconds"])
    memory, own_memory = one["extra_gib"]
    cells = [
        f"{name}, {case.size} px, {one['threads']} threads",
        f"{one['cosine']:.8f}"
        + (f", mean {one['mean_cosine']:.4f}" if "mean_cosine" in one else "")
        + (f", median {one['median_cosine']:.8f}" if "median_cosine" in one else ""),
        f"{theirs * scale:.2f}" + (f" ({scale:g} x {theirs:.2f})" if scale > 1 else ""),
        f"{ours:.2f}",
        f"**{theirs * scale / ours:.2f}**",
        f">= {case.ratio:g}" if case.ratio else "",
        f"{memory * scale:.2f}",
        f"{own_memory:.2f}",
        f"**{own_memory / (memory * scale):.3f}**",
        f"<= {case.memory:g}" if case.ratio else "",
        f"{one['load']:.1f}",
    ]
    return "| " + " | ".join(cells) + " |"


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    everything = [*CASES, *MACHINE]
    add("--keep", type=Path, required=True, help="JSON file of results, read and extended")
    add("--case", nargs="+", choices=everything, default=everything, help="what to measure")
    add("--anew", action="store_true", help="measure even what the file has")
    add("--model", default="ViT-B-16", help="of rates and growth [%(default)s]")
    add("--size", type=int, default=448, help="input pixels of rates and growth [%(default)s]")
    add("--repeats", type=int, default=3, help="of each timed call [%(default)s]")
    add("--threads", type=int, default=os.cpu_count() or 1, help="on both sides [%(default)s]")
    add("--env", type=Path, help="the virtual environment of the authors' packages")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
