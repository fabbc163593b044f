"""The engine's arithmetic beside the machine's best, and how its time grows."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from PIL import Image

from regionlm.backbones import ClipViT
from regionlm.embedders.maskinversion import MaskInversion

from .cases import VISION, build_model, image_array, mask_arrays

STEPS = 10


@dataclass(frozen=True)
class _Work:
    """Multiply-adds of products, for n tokens of width D in L blocks with an MLP of 4 D."""

    tokens: int
    width: int
    layers: int

    @property
    def trunk(self) -> int:
        """Of an image through all blocks."""
        per_token = 12 * self.width**2 + 2 * self.tokens * self.width
        return self.layers * self.tokens * per_token

    @property
    def half_step(self) -> int:
        """Of a mask's map, or of its gradient."""
        return self.tokens * (4 * self.width**2 + (self.tokens - 1) * self.width)

    def loop(self, masks: int) -> int:
        """Of K steps and the final maps: all masks share the first map."""
        return self.half_step * (1 + 2 * masks * STEPS)


class _Engine:
    """Our embedder on a seeded model at one size, and an image that it has encoded."""

    def __init__(self, model: str, size: int) -> None:
        backbone = ClipViT(build_model(model))
        self.embedder = MaskInversion(backbone, steps=STEPS, lr=0.5, size=size)
        pixels = backbone.preprocess(Image.fromarray(image_array()), size)[None]
        self.encode = lambda: backbone.encode(pixels)
        self.encoded = self.encode()
        patch, width = VISION[model]["patch_size"], VISION[model]["width"]
        self.work = _Work((size // patch) ** 2 + 1, width, VISION[model]["layers"])

    def loop(self, masks: int) -> Callable[[], Any]:
        """The inversion of so many masks, the image's forward done."""
        arrays = mask_arrays(masks)
        return lambda: self.embedder.invert(self.encoded, [arrays])


def rates(model: str, size: int, threads: int) -> dict[str, Any]:
    """Multiply-adds per second of the best product, of the image's forward and of the loop."""
    torch.set_num_threads(threads)
    engine = _Engine(model, size)
    square = torch.randn(2048, 2048)
    calls = {
        "best matrix product (2048)": (lambda: square @ square, 2048**3),
        "image forward": (engine.encode, engine.work.trunk),
        "loop, 1 mask": (engine.loop(1), engine.work.loop(1)),
        "loop, 10 masks": (engine.loop(10), engine.work.loop(10)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(3):
        for name, (call, _) in calls.items():
            seconds[name].append(_seconds(call))
    best = {name: work / min(seconds[name]) / 1e9 for name, (_, work) in calls.items()}
    top = next(iter(best.values()))
    lines = [f"{model}, {size} px, K = {STEPS}, {threads} threads: best of 3, products only", ""]
    lines += ["| part | s | GMAC/s | of the best |", "|---|---|---|---|"]
    lines += [
        f"| {name} | {min(seconds[name]):.3f} | {rate:.1f} | {rate / top:.0%} |"
        for name, rate in best.items()
    ]
    return {"lines": lines, "seconds": seconds}


def growth(model: str, size: int, threads: int) -> dict[str, Any]:
    """Exponents of the loop's time over masks and over tokens."""
    torch.set_num_threads(threads)
    engine = _Engine(model, size)
    over_masks = [(masks, _seconds(engine.loop(masks))) for masks in (1, 2, 4, 8, 16)]
    over_tokens = []
    for pixels in sorted({size // 2, size * 3 // 4, size, size * 12 // 7}):  # 224 to 768 of 448
        patch = VISION[model]["patch_size"]
        engine = _Engine(model, pixels // patch * patch)
        over_tokens.append((engine.work.tokens, _seconds(engine.loop(2))))
    lines = [f"{model}, {threads} threads: seconds of the loop, the image's forward left out", ""]
    for name, points in (("masks", over_masks), ("tokens, 2 masks", over_tokens)):
        listed = ", ".join(f"{at}: {seconds:.2f} s" for at, seconds in points)
        lines.append(f"- {name}: {listed}; exponent {_exponent(points):.2f}")
    return {"lines": lines}


def _exponent(points: Sequence[tuple[int, float]]) -> float:
    at, seconds = np.log(np.array(points)).T
    slope = float(np.polyfit(at, seconds, 1)[0])
    return slope if math.isfinite(slope) else float("nan")


def _seconds(call: Callable[[], Any]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
