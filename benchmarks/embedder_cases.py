"""Seeded inputs on which our embedders are held against the published ones; no weight files.

The tests read this module too, so it needs nothing that the package does not.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from published.cases import fill_weights, seeded_weight
from torch import Tensor

from regionlm.backbones import ClipViT
from regionlm.embedders import make_embedder

PATCH, GRID, WIDTH, DIM = 8, 6, 128, 32
SIDE = PATCH * GRID  # pixels; the models' own size, since each code resamples positions differently
PICTURE_HW = (384, 512)  # FGVP resizes a short side to 384 pixels; here it has nothing to do
STRIDE = 16  # of the pixels that are kept of pictures


def build_model(**options: Any) -> Any:
    """An open_clip CLIP of random weights: 12 blocks as ViT-B, which the published RIS code counts
    on, and heads of 64, which all of them count on."""
    from open_clip.model import CLIP

    norm = options.pop("norm_kwargs", None)
    vision = {"image_size": SIDE, "patch_size": PATCH, "width": WIDTH, "layers": 12}
    vision |= {"head_width": 64, **({"norm_kwargs": norm} if norm else {})}
    text = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1}
    model = CLIP(DIM, vision, text, **options).eval()
    fill_weights(model.visual)
    return model


def openai_model() -> Any:
    """With OpenAI's activation, as most of the published codes have it."""
    return build_model(quick_gelu=True)


def maskclip_model() -> Any:
    """With the activation and the epsilon of MaskCLIP's configuration."""
    return build_model(quick_gelu=False, norm_kwargs={"eps": 1e-6})


def alpha_weight() -> Tensor:
    """AlphaCLIP's fourth input channel."""
    return torch.from_numpy(seeded_weight("conv1_alpha.weight", (WIDTH, 1, PATCH, PATCH)))


def pixels() -> Tensor:
    """Normalised pixels ``[3, SIDE, SIDE]``."""
    return 2 * torch.from_numpy(seeded_weight("pixels.bias", (3, SIDE, SIDE))) / 0.05


def masks() -> Tensor:
    """bool ``[5, SIDE, SIDE]``: aligned with the patches, across them, ragged, one pixel, all."""
    found = torch.zeros(5, SIDE, SIDE, dtype=torch.bool)
    found[0, 8:32, 16:40] = True
    found[1, 5:31, 13:42] = True
    found[2] = torch.from_numpy(seeded_weight("mask.bias", (SIDE, SIDE))) > 0.02
    found[3, 47, 0] = True
    found[4] = True
    return found


def one_patch_masks() -> Tensor:
    """bool ``[GRID * GRID, GRID, GRID]``: each patch a region, so a dense method's embeddings are
    its unit patch vectors."""
    return torch.eye(GRID * GRID, dtype=torch.bool).view(-1, GRID, GRID)


def picture() -> np.ndarray:
    """uint8 ``[384, 512, 3]``: noise, which no filter leaves alone."""
    noise = seeded_weight("picture.bias", (*PICTURE_HW, 3)) / np.float32(0.05)
    return np.clip(128 + 127 * noise, 0, 255).astype(np.uint8)


def picture_masks() -> Tensor:
    """bool ``[3, 384, 512]``: a box, a ragged disc, one pixel."""
    height, width = PICTURE_HW
    found = torch.zeros(3, height, width, dtype=torch.bool)
    found[0, 40:171, 30:251] = True
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    found[1] = ((y - 200) ** 2 + (x - 300) ** 2 < 90**2) & ((x + y) % 7 > 0)
    found[2, 383, 0] = True
    return found


def ours(name: str, **options: Any) -> Tensor:
    """What our embedder makes of these inputs: ``[36, d]`` patches of the dense ones, ``[5, d]``
    regions of ris and alphaclip."""
    model = maskclip_model() if name == "maskclip" else openai_model()
    dense = name in ("maskclip", "clip_surgery", "sclip")
    embedder = make_embedder(name, ClipViT(model), **options)
    return embedder(pixels(), one_patch_masks() if dense else masks()).embeddings


def sample(pictures: list[np.ndarray]) -> np.ndarray:
    """Every 16th pixel of each picture."""
    return np.stack([picture[::STRIDE, ::STRIDE] for picture in pictures])
