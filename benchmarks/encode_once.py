"""What a second question about an image costs: asked of the image, and of a view of it.

    python benchmarks/encode_once.py
    python benchmarks/encode_once.py --model tiny --size 64 --repeats 1

Both sides get the same question in turns: the embedding of one region by MaskInversion. A time is
that of the whole call. Trunk forwards are counted, and the vectors compared, before anything is
timed. Weights, image and masks come from seeds.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable

from PIL import Image
from published.cases import VISION, build_model, image_array, mask_arrays
from torch import Tensor

from regionlm import ClipViT, RegionEncoder


class CountingViT(ClipViT):
    """A backbone that counts the images that its trunk has run on."""

    images = 0

    def trunk(self, pixels: Tensor, **options: int) -> tuple[Tensor, tuple[int, int]]:
        """See ``VisionBackbone.trunk``."""
        self.images += len(pixels)
        return super().trunk(pixels, **options)


def main() -> int:
    """Compare the two ways of asking; 1 if a view's answer differs or costs a trunk forward."""
    options = parse_options()
    backbone = CountingViT(build_model(options.model, "float32"))
    encoder = RegionEncoder(backbone)
    image, mask = Image.fromarray(image_array()), mask_arrays(1)
    view = encoder.encode(image, size=options.size)

    def ask(about: object) -> Callable[[], Tensor]:
        return lambda: encoder.embed(about, mask, size=options.size).embeddings

    sides = {"image": ask(image), "view": ask(view)}
    forwards, answers = {}, []
    for name, side in sides.items():
        before = backbone.images
        answers.append(side())
        forwards[name] = backbone.images - before
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(options.repeats):
        for name, side in sides.items():
            start = time.perf_counter()
            side()
            seconds[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(some) for name, some in seconds.items()}
    equal = answers[0].equal(answers[1])
    print(f"{options.model}, {options.size} px, 1 mask, 10 steps, {options.repeats} calls in turns")
    for name in sides:
        print(f"asked of the {name}: {forwards[name]} trunk forwards, {medians[name]:.3f} s")
    print(f"ratio {medians['image'] / medians['view']:.2f}; vectors equal to the bit: {equal}")
    return 0 if equal and forwards == {"image": 1, "view": 0} else 1


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=list(VISION), default="ViT-B-16", help="[%(default)s]")
    parser.add_argument("--size", type=int, default=448, help="input pixels [%(default)s]")
    parser.add_argument("--repeats", type=int, default=5, help="calls of each side [%(default)s]")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
