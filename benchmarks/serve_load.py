"""How much `regionlm serve` answers: closed loops of clients, each reply compared with Python's.

    python benchmarks/serve_load.py
    python benchmarks/serve_load.py --clients 1 16 --requests 64 --serve --max_batch 8
    python benchmarks/serve_load.py --only memory --requests 10000
    python benchmarks/serve_load.py --serve --ray --devices 2

The service runs in a process of its own on loopback, with `mini` and one caption a request. Images
are cut from the bundled benchmark's, of mixed sizes and with one to three boxes. Each client asks
its next question when it has the reply to the last one:

- distinct: no image is asked about twice; what waits together is worked together.
- repeated: eight questions, over and over.
- overload: a service with room for eight that wait, asked by as many clients as it can hold, and
  by twice as many. Who gets 429 tries again after a pause.
- memory: repeated and distinct questions in turns; the service's resident memory on the way.

Exit code 1 if a reply differs from the Python API's, or a request fails.
"""

from __future__ import annotations

import argparse
import base64
import io
import itertools
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from glob import glob
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

import regionlm.datasets
from regionlm.captioner import RegionCaptioner
from regionlm.inputs.images import open_image_bytes
from regionlm.inputs.masks import box_region

_IMAGES = Path(regionlm.datasets.__file__).parent / "mini_benchmark" / "images"
_SIDES = (96, 160, 224, 256)
_ROOM = 8  # questions that may wait in the overloaded service, and be worked together
_PAUSE = 0.25  # seconds before a client that got 429 tries again
_COLUMNS = (
    "load", "clients", "served", "a second", "CPU ms each", "p50 ms", "p95", "p99", "429", "failed",
    "differing",
)  # fmt: skip
_HEADERS = {"Content-Type": "application/json"}
_TOLERANCE = {"logprob": 0.02, "dice": 2e-3, "iou": 1e-2, "cosine_to_image": 2e-3}


@dataclass
class Asked:
    """A question as it is sent, and what Python says to it."""

    body: bytes
    expected: list[dict[str, Any]]


@dataclass
class Seen:
    """What the clients of one run have seen. Times in seconds."""

    times: list[float] = field(default_factory=list)
    statuses: Counter[int] = field(default_factory=Counter)
    differing: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    """Of the service, on all cores: what other programs do meanwhile changes it little."""

    def percentile(self, share: float) -> float:
        """Of the served requests' times."""
        ordered = sorted(self.times) or [math.nan]
        return ordered[min(len(ordered) - 1, int(share * len(ordered)))]

    def row(self, name: str, clients: int) -> str:
        """A line of the table."""
        figures = [1000 * self.percentile(share) for share in (0.5, 0.95, 0.99)]
        failed = sum(n for status, n in self.statuses.items() if status not in (200, 429))
        cells = [
            name, str(clients), str(len(self.times)), f"{len(self.times) / self.seconds:.1f}",
            f"{1000 * self.cpu_seconds / len(self.times):.0f}",
            *(f"{ms:.0f}" for ms in figures), str(self.statuses[429]), str(failed),
            str(self.differing),
        ]  # fmt: skip
        return f"| {' | '.join(cells)} |"


def main() -> int:
    """Print a table, and what it means."""
    options = parse_options()
    makes = Questions(RegionCaptioner.from_pretrained("mini", device="cpu"))
    print(f"| {' | '.join(_COLUMNS)} |\n|{len(_COLUMNS) * '---|'}", flush=True)
    found: dict[tuple[str, int], Seen] = {}
    if "distinct" in options.only:
        measure_distinct(makes, options, found)
    if "repeated" in options.only:
        measure_repeated(makes, options, found)
    if "overload" in options.only:
        measure_overload(makes, options, found)
    if "memory" in options.only:
        measure_memory(makes, options, found)
    compare(found)
    good = all(seen.statuses.keys() <= {200, 429} and not seen.differing for seen in found.values())
    return 0 if good else 1


def measure_distinct(
    makes: Questions, options: argparse.Namespace, found: dict[tuple[str, int], Seen]
) -> None:
    """Each image once, whatever the number of clients."""
    for clients in options.clients:
        asked = makes.some(options.requests)
        with running(*options.serve) as service:
            report(found, "distinct", clients, load(service, clients, iter(asked)))


def measure_repeated(
    makes: Questions, options: argparse.Namespace, found: dict[tuple[str, int], Seen]
) -> None:
    """Eight questions, each asked once before the clock runs."""
    asked = makes.some(8)
    with running(*options.serve) as service:
        load(service, 1, iter(asked))
        for clients in options.clients:
            again = itertools.islice(itertools.cycle(asked), 8 * options.requests)
            report(found, "repeated", clients, load(service, clients, again))


def measure_overload(
    makes: Questions, options: argparse.Namespace, found: dict[tuple[str, int], Seen]
) -> None:
    """As many clients as it can hold, and twice as many."""
    room = ["--max_queue", str(_ROOM), "--max_batch", str(_ROOM)]
    for factor in (1, 2):
        clients = factor * 2 * _ROOM
        asked = makes.some(options.requests)
        with running(*options.serve, *room) as service:
            report(found, "overload", clients, load(service, clients, iter(asked)))


def measure_memory(
    makes: Questions, options: argparse.Namespace, found: dict[tuple[str, int], Seen]
) -> None:
    """Every tenth question is new; the service's memory after each tenth of the requests."""
    old, part = makes.some(8), max(10, options.requests // 10)
    sizes = []
    with running(*options.serve) as service:
        for _ in range(10):
            new = makes.some(part // 10)
            mixed = [*new, *itertools.islice(itertools.cycle(old), part - len(new))]
            seen = load(service, max(options.clients), iter(mixed))
            sizes.append(resident_mib(service.pid))
            found["memory", len(sizes)] = seen
    report(found, "memory", max(options.clients), seen)
    print(f"\nresident MiB after each tenth of {10 * part} requests: {sizes}")


def compare(found: dict[tuple[str, int], Seen]) -> None:
    """Print the ratios that the bars are about."""
    rates = {key: len(seen.times) / seen.seconds for key, seen in found.items()}
    alone = rates.get(("distinct", 1))
    for (name, clients), rate in rates.items():
        if alone and name in ("distinct", "repeated") and clients > 1:
            print(f"{name}, {clients} clients: {rate / alone:.1f} times one at a time")
    full, twice = found.get(("overload", 2 * _ROOM)), found.get(("overload", 4 * _ROOM))
    if full and twice:
        ratio = twice.percentile(0.95) / full.percentile(0.95)
        print(f"overload: at twice the clients, p95 of the served is {ratio:.2f} times as long")


class Questions:
    """Makes questions about images that nobody has asked about.

    Args:
        model: says what the replies must be.
    """

    def __init__(self, model: RegionCaptioner) -> None:
        self._model, self._random = model, np.random.default_rng(0)
        self._files = sorted(_IMAGES.glob("*.jpg"))

    def some(self, count: int) -> list[Asked]:
        """So many new questions."""
        return [self._one() for _ in range(count)]

    def _one(self) -> Asked:
        draw = self._random
        picture = Image.open(self._files[draw.integers(len(self._files))]).convert("RGB")
        width, height = (int(draw.choice(_SIDES)) for _ in range(2))
        left, top = (int(draw.integers(0, 257 - side)) for side in (width, height))
        cut = picture.crop((left, top, left + width, top + height)).rotate(draw.uniform(-9, 9))
        file = io.BytesIO()
        cut.save(file, "JPEG", quality=90)
        boxes = [self._box(width, height) for _ in range(draw.integers(1, 4))]
        image = open_image_bytes(file.getvalue(), "image")
        found = self._model.caption(image, [box_region(box, image.size) for box in boxes])
        form = {
            "image": base64.b64encode(file.getvalue()).decode(),
            "regions": [{"box": box} for box in boxes],
        }
        return Asked(json.dumps(form).encode(), [one.to_dict() for one in found])

    def _box(self, width: int, height: int) -> list[int]:
        x0, y0 = (int(self._random.integers(0, side // 2)) for side in (width, height))
        return [x0, y0, x0 + width // 3, y0 + height // 3]


class Service(NamedTuple):
    """Where a service is."""

    port: int
    pid: int


def load(service: Service, clients: int, asked: Iterator[Asked]) -> Seen:
    """Ask all questions, with so many clients at once."""
    seen, lock = Seen(), threading.Lock()

    def client() -> None:
        connection = HTTPConnection("127.0.0.1", service.port, timeout=120)
        while True:
            with lock:
                question = next(asked, None)
            if question is None:
                return connection.close()
            while not ask(connection, question, seen, lock):
                time.sleep(_PAUSE)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    begun, used = time.perf_counter(), cpu_seconds(service.pid)
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seen.seconds = time.perf_counter() - begun
    seen.cpu_seconds = cpu_seconds(service.pid) - used
    return seen


def ask(connection: HTTPConnection, question: Asked, seen: Seen, lock: threading.Lock) -> bool:
    """Ask once, and note what came; whether the question is done with."""
    begun = time.perf_counter()
    connection.request("POST", "/v1/caption", question.body, _HEADERS)
    with connection.getresponse() as reply:
        status, text = reply.status, reply.read()
    taken = time.perf_counter() - begun
    with lock:
        seen.statuses[status] += 1
        if status == 200:
            seen.times.append(taken)
            seen.differing += differs(json.loads(text)["regions"], question.expected)
    return status != 429


def differs(found: Sequence[dict[str, Any]], expected: Sequence[dict[str, Any]]) -> bool:
    """Whether a reply is another than Python's; figures to what other orders of sums change."""
    return len(found) != len(expected) or any(
        one["caption"] != other["caption"]
        or any(abs(one[name] - other[name]) > most for name, most in _TOLERANCE.items())
        for one, other in zip(found, expected, strict=True)
    )


def report(found: dict[tuple[str, int], Seen], name: str, clients: int, seen: Seen) -> None:
    """Keep a run, and print its line."""
    found[name, clients] = seen
    print(seen.row(name, clients), flush=True)


@contextmanager
def running(*options: str) -> Iterator[Service]:
    """A service in a process of its own."""
    command = [sys.executable, "-m", "regionlm", "serve", "--port", "0", "--warmup", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        address = line.partition(",")[0].strip()  # of several processes, it says how many
        yield Service(int(address.rpartition(":")[2]), process.pid)
    finally:
        process.terminate()
        process.wait()


def resident_mib(pid: int) -> int:
    """Resident memory of a process and all that descend from it, on Linux; what they share counts
    for each."""
    found = (re.search(r"VmRSS:\s+(\d+)", contents(f"/proc/{one}/status")) for one in family(pid))
    return sum(int(size[1]) for size in found if size) // 1024


def cpu_seconds(pid: int) -> float:
    """What a process and all that descend from it have used of all cores, on Linux."""
    files = (contents(f"/proc/{one}/stat") for one in family(pid))
    used = [int(ticks) for text in files for ticks in text.rpartition(")")[2].split()[11:13]]
    return sum(used) / os.sysconf("SC_CLK_TCK")


def family(pid: int) -> list[int]:
    """A process and all that descend from it. Of a cluster that `regionlm serve --ray` has started,
    these are all of Ray's: replicas, proxy, controller, and what manages them."""
    found = [pid]
    for one in found:
        for file in glob(f"/proc/{one}/task/*/children"):
            found += map(int, contents(file).split())
    return found


def contents(file: str) -> str:
    """What the system says of a process; nothing if it has ended meanwhile."""
    try:
        return Path(file).read_text()
    except OSError:
        return ""


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=(__doc__ or "").split("\n\n")[0],
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16, 64])
    parser.add_argument("--requests", type=int, default=128, help="of each line")
    loads = ["distinct", "repeated", "overload", "memory"]
    parser.add_argument("--only", nargs="+", choices=loads, default=loads[:3])
    parser.add_argument("--serve", nargs=argparse.REMAINDER, default=[], help="options of serve")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
