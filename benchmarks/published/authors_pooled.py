"""The authors' packages on attention-pooled models, in their environment."""

from __future__ import annotations

import json
import sys
import time
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


def answer(model: str, size: int) -> None:
    """For each number of masks that arrives as a line, the seconds of a call as a line back."""
    reply, sys.stdout = sys.stdout, sys.stderr
    wrapper = MaskInversion(build_pooled(model))
    wrapper.empty_embedding = torch.from_numpy(seeded_vectors(model, 1, seed=4)).T.float()
    pixels = torch.from_numpy(pixel_array(size)).float()
    wrapper.compute_maskinversion(pixels, torch.from_numpy(mask_arrays(1)).float(), iterations=2)
    print("ready", file=reply, flush=True)
    for line in sys.stdin:
        masks = torch.from_numpy(mask_arrays(int(line))).float()
        start = time.perf_counter()
        wrapper.compute_maskinversion(pixels, masks)
        print(json.dumps(time.perf_counter() - start), file=reply, flush=True)


if __name__ == "__main__":
    command, name, side, *rest = sys.argv[1:]
    if command == "maps":
        main(name, int(side), int(rest[0]), Path(rest[1]))
    elif command == "invert":
        invert(name, int(side), Path(rest[0]))
    else:
        answer(name, int(side))
