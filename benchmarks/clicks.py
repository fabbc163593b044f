"""How well one click marks a thing: superpixels on scenes of the bundled benchmark.

    python benchmarks/clicks.py --scenes 60

Clicks once, at a random pixel, into each thing of the first scenes, and prints what the region that
is grown and the thing have in common, as a share of what they cover together.
"""

from __future__ import annotations

import argparse
import statistics

import numpy as np

from regionlm.datasets.mini import Mini
from regionlm.errors import InputError
from regionlm.inputs.points import Point
from regionlm.points.superpixels import Superpixels


def main() -> None:
    """Print the mean and the median over all clicks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenes", type=int, default=60, help="how many [%(default)s]")
    scenes = Mini()
    count = min(parser.parse_args().scenes, len(scenes))
    shares = [share for index in range(count) for share in overlaps(scenes[index], index)]
    print(
        f"{len(shares)} clicks in {count} scenes: mean {statistics.mean(shares):.2f},"
        f" median {statistics.median(shares):.2f}"
    )


def overlaps(scene, seed: int) -> list[float]:  # type: ignore[no-untyped-def]
    """The share for each thing of a scene; 0 where no region is found."""
    draw, grow = np.random.default_rng(seed), Superpixels()
    found = []
    for mask in scene.masks:
        rows, columns = np.nonzero(mask)
        chosen = draw.integers(len(rows))
        try:
            region = grow.mask(scene.image, [Point(columns[chosen], rows[chosen], True)])
        except InputError:
            found.append(0.0)
            continue
        found.append(float((region & mask).sum() / (region | mask).sum()))
    return found


if __name__ == "__main__":
    main()
