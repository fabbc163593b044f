"""What both sides compute on: rows of the comparison, weights, an image and masks, all from seeds.

This module runs in two environments (ours, and the one with the authors' old packages) and in the
tests, so it needs nothing beyond the standard library and numpy until a model is built. No weight
file travels between the sides: every parameter is drawn from numpy's PCG64 bit stream (numpy
promises to keep bit streams, unlike ``Generator.normal``), seeded by the parameter's name.
"""

from __future__ import annotations

import itertools
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

IMAGE_HW = (300, 400)  # unlike any input size, and not square: the squash is part of the comparison

# The visual part of open_clip's configurations of the same names.
VISION: dict[str, dict[str, Any]] = {
    "ViT-B-32": {"layers": 12, "width": 768, "patch_size": 32, "image_size": 224},
    "ViT-B-16": {"layers": 12, "width": 768, "patch_size": 16, "image_size": 224},
    "ViT-L-14": {"layers": 24, "width": 1024, "patch_size": 14, "image_size": 224},
    # Small ones, for the options that the three above do not have.
    "tiny": {"layers": 3, "width": 64, "patch_size": 8, "image_size": 64, "head_width": 16},
}
VISION["ViT-B-32-quickgelu"] = VISION["ViT-B-32"]
VISION["tiny-quickgelu"] = VISION["tiny"]
VISION["tiny-layerscale"] = {**VISION["tiny"], "ls_init_value": 0.5, "mlp_ratio": 2.0}
DIM = {"ViT-B-32": 512, "ViT-B-16": 512, "ViT-L-14": 768, "ViT-B-32-quickgelu": 512}
TINY_DIM = 32


@dataclass(frozen=True)
class Row:
    """One run of MaskInversion: the model, the square input size and the settings."""

    model: str
    size: int
    masks: int
    alpha: float
    lr: float
    steps: int = 10
    weight_decay: float = 0.0
    dtype: str = "float32"  # of both sides' arithmetic
    speed: str = "exact"  # of our side
    mean_over: int | None = None  # masks of the authors' call, if ours has more

    @property
    def key(self) -> str:
        """A name for files and tables."""
        name = f"{self.model}_{self.size}px_{self.masks}masks_alpha{self.alpha:g}_lr{self.lr:g}"
        name += f"_{self.steps}steps" if self.steps != 10 else ""
        name += f"_wd{self.weight_decay:g}" if self.weight_decay else ""
        name += f"_{self.speed}" if self.speed != "exact" else ""
        return name + (f"_{self.dtype}" if self.dtype != "float32" else "")


def matrix(
    models: Iterable[str], sizes: Iterable[int], masks: Iterable[int], dtype: str = "float32"
) -> list[Row]:
    """Every combination with alpha 0 and 5 and lr 0.1 and 0.5; the cheap rows come first."""
    rows = [
        Row(model, size, count, alpha, lr, dtype=dtype)
        for model, size, count, alpha, lr in itertools.product(
            models, sizes, masks, (0.0, 5.0), (0.1, 0.5)
        )
    ]
    cost = {name: i for i, name in enumerate(("tiny", "ViT-B-32", "ViT-B-16", "ViT-L-14"))}
    return sorted(rows, key=lambda r: (r.size, cost.get(r.model, 0), r.masks))


def build_model(name: str, dtype: str = "float32") -> Any:
    """An ``open_clip`` CLIP of this configuration with the seeded weights, in eval mode.

    Works with open_clip 2.23 (the authors') and 3.x (ours). The text tower is never used here
    and stays minimal.
    """
    import torch
    from open_clip.model import CLIP

    text = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1}
    quick = name.endswith("-quickgelu")
    model = CLIP(DIM.get(name, TINY_DIM), dict(VISION[name]), text, quick_gelu=quick).eval()
    fill_weights(model.visual)
    return model.to(getattr(torch, dtype))


def fill_weights(visual: Any) -> None:
    """Overwrite every parameter with seeded values of a sensible scale."""
    import torch

    with torch.no_grad():
        for name, parameter in visual.named_parameters():
            values = seeded_weight(name, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values))


def seeded_weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """The values of one parameter: float32, uniform about its usual centre.

    Scales are those of open_clip's random initialisation, but the projection is narrower, so that
    embeddings have a norm of about 10 as CLIP's have. They matter: AdamW's first step is the sign
    of the gradient, and a random network with wider weights amplifies float32 rounding until signs
    flip. With variance 1/fan_in (1.5 squared that in queries, keys and values) the authors'
    code run in float32 and in float64 differs from itself by 2e-4 to 2e-3 in cosine (ViT-B/32,
    224 px), and no bar could tell right from wrong.
    """
    noise = unit_noise(zlib.crc32(name.encode()), int(np.prod(shape))).reshape(shape)
    owner, _, kind = name.rpartition(".")
    if ".ls_" in name:  # LayerScale
        return np.float32(0.5) + np.float32(0.1) * noise
    if "ln_" in owner and kind == "weight":
        return np.float32(1) + np.float32(0.1) * noise
    if kind == "bias":
        return np.float32(0.05) * noise
    if kind.endswith("embedding"):
        return noise * np.float32(shape[-1] ** -0.5)
    if name == "proj":
        return noise * np.float32(0.45 * shape[0] ** -0.5)
    variance = 1 / 2 if kind == "in_proj_weight" else 1 / 3
    return noise * np.float32((variance / np.prod(shape[1:])) ** 0.5)


def unit_noise(seed: int, count: int) -> np.ndarray:
    """``count`` float32 values, uniform with mean 0 and variance 1, the same everywhere."""
    raw = np.random.PCG64(seed).random_raw(-(-count // 4)).astype("<u8").view("<u2")[:count]
    return (raw.astype(np.float32) - np.float32(32767.5)) * np.float32(np.sqrt(3) / 32767.5)


def seeded_tokens(name: str, count: int = 4) -> np.ndarray:
    """``count`` unit vectors of the model's joint space, float64 ``[count, d]``."""
    dim = DIM.get(name, TINY_DIM)
    tokens = unit_noise(3, count * dim).reshape(count, dim).astype(np.float64)
    return tokens / np.linalg.norm(tokens, axis=1, keepdims=True)


def image_array() -> np.ndarray:
    """The picture: uint8 [300, 400, 3], coarse colour blocks, shapes and fine noise."""
    h, w = IMAGE_HW
    blocks = (unit_noise(1, 15 * 20 * 3).reshape(15, 20, 3) * 40 + 128).astype(np.int64)
    picture = np.kron(blocks, np.ones((h // 15, w // 20, 1), np.int64))
    for index, mask in enumerate(mask_arrays(7)):
        colour = (37 * (index + 1) % 120 - 60, 61 * (index + 1) % 120 - 60, 50 - 15 * index)
        picture[mask] += np.array(colour)
    picture += (unit_noise(2, h * w * 3).reshape(h, w, 3) * 12).astype(np.int64)
    return np.clip(picture, 0, 255).astype(np.uint8)


def mask_arrays(count: int) -> np.ndarray:
    """``count`` regions, bool [count, 300, 400]: ten of different kinds, then those moved right."""
    h, w = IMAGE_HW
    y, x = np.mgrid[:h, :w]

    def disc(cy: int, cx: int, radius: int) -> np.ndarray:
        return (y - cy) ** 2 + (x - cx) ** 2 <= radius**2

    regions = [
        disc(140, 130, 90) & ~disc(130, 170, 60),  # a crescent: not convex
        (y >= 40) & (y < 49) & (x >= 300) & (x < 312),  # small: 9 x 12 pixels
        ~disc(150, 250, 110),  # large: a background with a hole
        disc(220, 330, 50),
        (abs(3 * y - 2 * x + 100) < 24) & (x > 40),  # a thin slanted strip
        disc(60, 60, 30) | disc(250, 60, 30) | disc(60, 350, 35),  # three parts
        (y > 200) & ((x // 25) % 2 == 0),  # stripes
        (y < 150) & (x < 200),
        (y + x < 260) & (y > 20) & (x > 90),
        disc(150, 200, 120) & ~disc(150, 200, 80),
    ]
    kinds = len(regions)
    regions += [np.roll(regions[i % kinds], 29 * (i // kinds), 1) for i in range(kinds, count)]
    return np.stack(regions[:count])


def fingerprint() -> int:
    """A number that changes with the weights, the picture, the masks or the configurations.

    Stored beside results, so that none is ever compared with those of other inputs.
    """
    parameters = ["conv1.weight", "proj", "class_embedding", "ln_1.bias", "ln_1.weight"]
    parameters += ["ls_1.gamma", "attn.in_proj_weight", "mlp.c_fc.weight"]
    weights = np.concatenate([seeded_weight(name, (8, 64)).ravel() for name in parameters])
    parts = [weights.astype("<f4"), image_array(), np.packbits(mask_arrays(10))]
    settings = np.frombuffer(repr((VISION, DIM, TINY_DIM)).encode(), np.uint8)
    return zlib.crc32(b"".join(part.tobytes() for part in [*parts, settings]))
