"""What a busy machine costs: MaskInversion alone, beside a busy process, and twice at once.

    python benchmarks/busy_machine.py
    python benchmarks/busy_machine.py --model tiny --size 64 --masks 1 --repeats 1

Each number of masks is timed in all three situations in turns, K = 10 steps, the image's trunk
forward included. It is done for waiting threads that sleep, as the `regionlm` command lets them,
and for PyTorch's default (docs/threads.md). Weights, image and masks come from seeds. The machine
must be idle otherwise. Exit code 1 if a call of the first kind takes more than --bar times as long
as alone.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

SITUATIONS = ("alone", "beside a busy process", "two at once")
POLICIES: Mapping[str, Mapping[str, str]] = {"sleep": {"GOMP_SPINCOUNT": "0"}, "PyTorch's": {}}


def main() -> int:
    """Print a table for each policy."""
    options = parse_options()
    if options.worker:
        return work(options.model, options.size)
    worst = 0.0
    print(f"{options.model}, {options.size} px, 10 steps; medians of {options.repeats}, seconds")
    for policy in options.policies:
        ratios = measure(policy, options)
        worst = max(worst, max(ratios)) if policy == "sleep" else worst
    print(f"\nat most {worst:.2f} times as long as alone with threads that sleep")
    return 0 if worst <= options.bar else 1


def measure(policy: str, options: argparse.Namespace) -> list[float]:
    """Print the policy's table; the ratios to the time alone."""
    ratios = []
    print(f"\nWaiting threads: {policy}\n\n| masks | {' | '.join(SITUATIONS)} | ratios |")
    print("|---|---|---|---|---|", flush=True)
    with worker(policy, options) as one, worker(policy, options) as two:
        for count in options.masks:
            found: dict[str, list[float]] = {name: [] for name in SITUATIONS}
            for _ in range(options.repeats):
                found["alone"].append(seconds([one], count))
                with burner():
                    found["beside a busy process"].append(seconds([one], count))
                found["two at once"].append(seconds([one, two], count))
            medians = [statistics.median(found[name]) for name in SITUATIONS]
            here = [median / medians[0] for median in medians[1:]]
            cells = [f"{median:.2f}" for median in medians]
            cells.append(", ".join(f"{ratio:.2f}" for ratio in here))
            print(f"| {count} | {' | '.join(cells)} |", flush=True)
            ratios += here
    return ratios


def seconds(workers: list[subprocess.Popen[str]], count: int) -> float:
    """Seconds of a call for so many masks in each worker at the same time; the slowest counts."""
    for process in workers:
        assert process.stdin is not None
        print(count, file=process.stdin, flush=True)
    return max(float(_answer(process)) for process in workers)


@contextmanager
def worker(policy: str, options: argparse.Namespace) -> Iterator[subprocess.Popen[str]]:
    """A process that has built its model and waits for numbers of masks."""
    ours = {k: v for k, v in os.environ.items() if k not in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY")}
    command = [sys.executable, __file__, "--worker", "--model", options.model]
    process = subprocess.Popen(
        [*command, "--size", str(options.size)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**ours, **POLICIES[policy]},
    )
    try:
        _answer(process)
        yield process
    finally:
        process.communicate()


@contextmanager
def burner() -> Iterator[None]:
    """A Python process that computes all the time."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    time.sleep(0.2)  # until it does
    try:
        yield
    finally:
        process.kill()
        process.wait()


def work(model: str, size: int) -> int:
    """Time calls as they are asked for on standard input."""
    from PIL import Image
    from published.cases import build_model, image_array, mask_arrays

    from regionlm import ClipViT, MaskInversion

    embedder = MaskInversion(ClipViT(build_model(model, "float32")), size=size)
    image = Image.fromarray(image_array())
    embedder(image, mask_arrays(1))
    print("ready", flush=True)
    for line in sys.stdin:
        masks = mask_arrays(int(line))
        start = time.perf_counter()
        embedder(image, masks)
        print(time.perf_counter() - start, flush=True)
    return 0


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="ViT-B-16", help="[%(default)s]")
    parser.add_argument("--size", type=int, default=448, help="input pixels [%(default)s]")
    parser.add_argument("--masks", type=int, nargs="+", default=[1, 4, 10])
    parser.add_argument("--repeats", type=int, default=3, help="calls of each kind [%(default)s]")
    parser.add_argument("--policies", nargs="+", choices=list(POLICIES), default=list(POLICIES))
    parser.add_argument("--bar", type=float, default=2.0, help="[%(default)s]")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def _answer(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    answer = process.stdout.readline()
    if not answer:
        raise RuntimeError(f"a worker ended early, exit code {process.wait()}")
    return answer


if __name__ == "__main__":
    sys.exit(main())
