"""The authors' packages on attention-pooled models, in their environment."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from legrad import LeWrapper
from maskinversion import MaskInversion

from .cases import mask_arrays
from .pooled_cases import build_pooled, pixel_array, seeded_vectors


def main(model: str, size: int, layer_index: int, output: Path) -> None:
    """Write LeGrad's maps of seeded tokens, one at a time: their SigLIP code adds up the tokens of
    a batch. ``corrected`` are those with the correction, of a seeded text; CoCa has none."""
    wrapper = LeWrapper(build_pooled(model, "float64"), layer_index=layer_index)
    wrapper.empty_embedding = torch.from_numpy(seeded_vectors(model, 1, seed=4)).T
    pixels = torch.from_numpy(pixel_array(size))
    tokens = torch.from_numpy(seeded_vectors(model, 4)).split(1)
    found: dict[str, Any] = {}
    for name, corrected in (("maps", False), ("corrected", True)):
        maps = [
            wrapper.compute_legrad(one, image=pixels, apply_correction=corrected) for one in tokens
        ]
        found[name] = torch.cat(maps)[:, 0].detach().numpy()
    np.savez_compressed(output, **found)


def invert(model: str, size: int, output: Path) -> None:
    """Write the embedding of one mask, K = 10, lr 0.1, with the correction, as is their default."""
    wrapper = MaskInversion(build_pooled(model))
    wrapper.double()
    wrapper.empty_embedding = torch.from_numpy(seeded_vectors(model, 1, seed=4)).T
    masks = torch.from_numpy(mask_arrays(1)).double()
    let = wrapper.compute_maskinversion(torch.from_numpy(pixel_array(size)), masks)
    np.savez_compressed(output, let=let.detach().numpy())


if __name__ == "__main__":
    command, name, side, *rest = sys.argv[1:]
    if command == "maps":
        main(name, int(side), int(rest[0]), Path(rest[1]))
    else:
        invert(name, int(side), Path(rest[0]))
