"""PhraseCut's masks by the dataset's own tool beside ours: the same pixels.

git clone https://github.com/ChenyunWu/PhraseCutDataset
python benchmarks/published_phrasecut.py PhraseCutDataset            # 500 random phrases
python benchmarks/published_phrasecut.py PhraseCutDataset --write    # renew the test's file
"""

from __future__ import annotations

import argparse
import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np

from regionlm.datasets.phrasecut import phrase_mask

FOLDER = Path(__file__).parents[1] / "tests" / "regionlm" / "datasets" / "reference"
REFERENCE = FOLDER / "phrasecut.npz"
SIZE = (40, 30)
WRITTEN = 20


def main() -> int:
    """Compare; 1 if a mask differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("checkout", type=Path, help="of PhraseCutDataset")
    parser.add_argument("--phrases", type=int, default=500)
    parser.add_argument("--write", action="store_true", help=f"write {REFERENCE.name}")
    options = parser.parse_args()
    spec = importlib.util.spec_from_file_location(
        "data_transfer", options.checkout / "utils" / "data_transfer.py"
    )
    assert spec is not None and spec.loader is not None
    official = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(official)

    phrases = [random_phrase(np.random.default_rng(seed)) for seed in range(options.phrases)]
    # As its evaluator does: a mask for each instance, united over the phrase.
    masks = [
        np.any([official.polygons_to_mask(instance, *SIZE) for instance in phrase], axis=0)
        for phrase in phrases
    ]
    pairs = zip(phrases, masks, strict=True)
    differ = sum(not np.array_equal(phrase_mask(phrase, SIZE), mask) for phrase, mask in pairs)
    print(f"{differ} of {len(phrases)} masks differ")
    if options.write:
        REFERENCE.parent.mkdir(exist_ok=True)
        polygons = json.dumps(phrases[:WRITTEN])
        np.savez_compressed(REFERENCE, polygons=polygons, masks=np.stack(masks[:WRITTEN]))
    return int(differ > 0)


def random_phrase(random: np.random.Generator) -> list[list[list[list[float]]]]:
    """Instances of polygons of points, some beyond the picture, some of a single point."""

    def polygon() -> Any:
        corners = random.uniform(-9, 49, (random.integers(1, 9), 2))
        return corners.round(random.integers(0, 3)).tolist()

    return [[polygon() for _ in range(random.integers(1, 4))] for _ in range(random.integers(1, 4))]


if __name__ == "__main__":
    raise SystemExit(main())
