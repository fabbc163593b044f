"""The authors' LeGrad at work, in their environment: maps of seeded tokens over some layers."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from legrad import LeWrapper
from PIL import Image

from .cases import build_model, image_array, seeded_tokens


def main(model: str, size: int, layer_index: int, output: Path) -> None:
    """Write the maps ``[T, size, size]`` in [0, 1] that ``compute_legrad`` gives, in float64."""
    clip = build_model(model, "float64")
    wrapper = LeWrapper(clip, layer_index=layer_index)
    squashed = Image.fromarray(image_array()).resize((size, size), Image.Resampling.BICUBIC)
    pixels = torch.from_numpy(np.array(squashed)).permute(2, 0, 1)[None].double() / 255 - 0.5
    tokens = torch.from_numpy(seeded_tokens(model))
    maps = wrapper.compute_legrad(tokens, image=pixels)[0]
    np.savez_compressed(output, maps=maps.detach().numpy(), pixels=pixels.numpy())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
