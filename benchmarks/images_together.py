"""What inverting the regions of several images at once saves, against one image after the other.

    python benchmarks/images_together.py

Both sides invert images that were encoded before, in turns; their vectors are compared, bit by bit,
before anything is timed. A time is the CPU's, of a single thread, so that what else a machine does
changes it little. `mini` at its own size, and models with random weights, at which products are
larger, and less is saved.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
from published.cases import build_model

from regionlm import ClipViT, RegionEncoder
from regionlm.backbones.vision import EncodedImages
from regionlm.embedders.localized import Localized
from regionlm.embedders.maskinversion import MaskInversion

_IMAGES = 8
_CASES = (("mini", 192, 1), ("mini", 192, 3), ("ViT-B-32", 224, 1), ("ViT-B-16", 224, 1))


def main() -> int:
    """Print the table; 1 if a vector differs."""
    options = parse_options()
    torch.set_num_threads(1)
    print(f"{_IMAGES} images | regions of each | ms an image, alone | together | ratio", flush=True)
    for name, size, regions in _CASES:
        embedder, encoded = make(name, size)
        masks = [draw_masks(regions, size, seed) for seed in range(_IMAGES)]
        one_by_one, together = sides(embedder, encoded, masks)
        for alone, beside in zip(one_by_one(), together(), strict=True):
            if not torch.equal(alone.embeddings, beside.embeddings):
                print(f"{name}: vectors differ")
                return 1
        taken: list[list[float]] = [[], []]
        for _ in range(options.repeats):
            for side, times in zip((one_by_one, together), taken, strict=True):
                begun = time.thread_time()
                side()
                times.append(1000 * (time.thread_time() - begun) / _IMAGES)
        first, second = map(statistics.median, taken)
        print(f"{name} | {regions} | {first:.1f} | {second:.1f} | {first / second:.2f}", flush=True)
    return 0


def make(name: str, size: int) -> tuple[MaskInversion, EncodedImages]:
    """An embedder, and images that its model has encoded."""
    is_bundled = name == "mini"
    backbone = (
        RegionEncoder.from_pretrained(name, device="cpu").backbone
        if is_bundled
        else ClipViT(build_model(name, "float32"))
    )
    pixels = torch.randn(_IMAGES, 3, size, size, generator=torch.Generator().manual_seed(0))
    return MaskInversion(backbone, size=size), backbone.encode(pixels)


def draw_masks(count: int, size: int, seed: int) -> np.ndarray:
    """Boxes, bool ``[count, size, size]``."""
    random, masks = np.random.default_rng(seed), np.zeros((count, size, size), bool)
    for mask in masks:
        top, left = random.integers(0, size // 2, 2)
        mask[top : top + size // 3, left : left + size // 3] = True
    return masks


def sides(
    embedder: MaskInversion, encoded: EncodedImages, masks: list[np.ndarray]
) -> tuple[Callable[[], list[Localized]], Callable[[], list[Localized]]]:
    """What is compared: image by image, and all at once."""
    images = encoded.split()

    def one_by_one() -> list[Localized]:
        return [embedder.invert(*one)[0] for one in zip(images, [[m] for m in masks], strict=True)]

    return one_by_one, lambda: embedder.invert(encoded, masks)


def parse_options() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--repeats", type=int, default=7)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
