"""How long MaskInversion takes: against the number of masks (Table 5, Figure 10 of the paper) and
against the number of tokens (Figure 6), the factored engine beside the authors' way.

    python benchmarks/runtime.py --output runs/runtime
    python benchmarks/runtime.py --output runs/try --model tiny --size 64 --sizes 64 112 --repeats 1

Sides, each in a process of its own, called in turns:

    regionlm    the factored engine: one image forward, no graph
    autograd    the paper's "vanilla" way in our environment: the image forwarded once per mask,
                two differentiations through the last block each step (published/autograd_side.py)
    published   the authors' own package; naming it installs it (see published_maskinversion.py),
                by default it takes part where it is installed already

Weights, image and masks come from seeds. A time is that of the whole call, image forward included.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from published.cases import VISION, Row
from published.environment import authors_python, default_folder
from published.runtime_report import Measurement, write_report
from published.timing import Setting, TimingWorker, take_turns

MODULES = {"autograd": "autograd_side", "published": "authors_side", "regionlm": "our_side"}
AUTHORS = default_folder() / "venv"


def main() -> int:
    """Measure both curves and write them down."""
    options = parse_options()
    installed = (AUTHORS / "bin" / "python").exists()
    sides = options.sides or [name for name in MODULES if name != "published" or installed]
    pythons = [authors_python(AUTHORS) if s == "published" else Path(sys.executable) for s in sides]
    modules = [(python, MODULES[side]) for python, side in zip(pythons, sides, strict=True)]
    by_masks = list(measure(options, modules, options.size, options.masks))
    by_tokens = [
        found
        for size in options.sizes
        for found in measure(options, modules, size, [options.token_masks])
    ]
    setup = f"{options.model}, K = {options.steps}, float32, CPU, {options.threads} threads"
    print(write_report(options.output, setup, sides, by_masks, by_tokens), end="")
    return 0


def measure(
    options: argparse.Namespace,
    modules: Sequence[tuple[Path, str]],
    size: int,
    counts: Sequence[int],
) -> Iterator[Measurement]:
    """One measurement for each number of masks; ascending, for a peak of memory never falls."""
    setting = Setting(options.model, size, (), options.repeats, options.threads)
    workers = [TimingWorker(python, module, setting) for python, module in modules]
    try:
        for worker in workers:
            worker.wait()
        for count in counts:
            row = Row(options.model, size, count, 0.0, 0.5, steps=options.steps)
            answers = take_turns(workers, row, options.repeats)
            point = Measurement(
                masks=count,
                size=size,
                tokens=(size // VISION[options.model]["patch_size"]) ** 2 + 1,
                seconds=[[answer["seconds"] for answer in side] for side in answers],
                peak_gib=[max(answer["peak_gib"] for answer in side) for side in answers],
            )
            seconds = ", ".join(f"{median:.3f} s" for median in point.medians)
            print(f"{size} px, {count} masks: {seconds}", file=sys.stderr, flush=True)
            yield point
    finally:
        for worker in workers:
            worker.close()


def parse_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The command line, checked."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--output", type=Path, required=True, help="folder for runtime.json, runtime.md and plots")
    add("--model", choices=list(VISION), default="ViT-B-16", help="[%(default)s]")
    add("--size", type=int, default=224, help="input pixels of the curve over masks [%(default)s]")
    add("--masks", type=int, nargs="+", default=[1, 5, 10, 25], help="numbers of masks")
    add("--sizes", type=int, nargs="+", default=[112, 224, 336, 448], help="of the token curve")
    add("--token_masks", type=int, default=5, help="masks of the token curve [%(default)s]")
    add("--steps", type=int, default=10, help="K [%(default)s]")
    add("--sides", nargs="+", choices=list(MODULES), help="which to measure")
    add("--repeats", type=int, default=3, help="calls of each side at each point [%(default)s]")
    add("--threads", type=int, default=os.cpu_count() or 1, help="of each side")
    options = parser.parse_args(argv)
    patch = VISION[options.model]["patch_size"]
    for size in [options.size, *options.sizes]:
        if size < patch or size % patch:
            parser.error(f"--size, --sizes: expected multiples of {patch} pixels, found {size}")
    for name in ("masks", "sizes"):
        setattr(options, name, sorted(set(getattr(options, name))))
    whole = [options.token_masks, options.steps, options.repeats, options.threads, *options.masks]
    if min(whole) < 1:
        parser.error(
            f"--masks, --token_masks, --steps, --repeats, --threads: expected 1 or more, found"
            f" {min(whole)}"
        )
    try:
        options.output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        parser.error(f"--output {options.output}: cannot be made a folder ({error.strerror})")
    return options


if __name__ == "__main__":
    sys.exit(main())
