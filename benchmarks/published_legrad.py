"""Hold LeGrad over the last layers against the authors' package: the same maps.

    python benchmarks/published_legrad.py                 # ViT-B/32 and B/16 at 224 px
    python benchmarks/published_legrad.py --models tiny   # seconds

Maps of four random tokens for ``layer_index`` -1, -2 (their default) and 0, which is all layers; at
every pixel of the input, min-max scaled as theirs are; both sides in float64. Weights, image and
tokens come from seeds. The environment of the authors' packages is that of
``published_maskinversion.py``, made when it is missing.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from published.cases import VISION, build_model, seeded_tokens
from published.compare import BENCHMARKS
from published.environment import authors_python, default_folder

from regionlm import ClipViT
from regionlm.relevance import make_relevance
from regionlm.relevance.explanation import Explanation
from regionlm.relevance.resize import GridToMask

MOST = 1e-6  # difference of two maps in [0, 1]


def main() -> int:
    """Print a line for each case; 1 if one is out of bounds."""
    options = parse_options()
    python = authors_python(default_folder() / "venv")
    print("| model | size | layers | max map difference | within the bar |\n|---|---|---|---|---|")
    failed = 0
    for model in options.models:
        size = options.size or VISION[model]["image_size"]
        for index in (-1, -2, 0):
            layers = -index or VISION[model]["layers"]
            difference = compare(python, model, size, index)
            good = difference <= MOST
            failed += not good
            verdict = "yes" if good else "**no**"
            print(f"| {model} | {size} | {layers} | {difference:.1e} | {verdict} |", flush=True)
    return int(failed > 0)


def compare(python: Path, model: str, size: int, layer_index: int) -> float:
    """The largest difference between a map of theirs and of ours, at any pixel."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "theirs.npz"
        arguments = [model, str(size), str(layer_index), str(output)]
        command = [str(python), "-m", "published.authors_legrad", *arguments]
        subprocess.run(command, check=True, cwd=BENCHMARKS, capture_output=True)
        theirs = np.load(output)
        pixels, wanted = torch.from_numpy(theirs["pixels"]), theirs["maps"]
    layers = -layer_index or VISION[model]["layers"]
    found = our_maps(ClipViT(build_model(model, "float64")), pixels, layers, seeded_tokens(model))
    return float(abs(found - wanted).max())


def our_maps(
    backbone: ClipViT, pixels: torch.Tensor, layers: int, tokens: np.ndarray
) -> np.ndarray:
    """Maps ``[T, H, W]`` in [0, 1] of unit tokens ``[T, d]``."""
    encoded = backbone.encode(pixels, layers=layers)
    method = make_relevance("legrad", backbone, encoded, masks=1)
    size = (pixels.shape[2], pixels.shape[3])
    resize = GridToMask.of(encoded.grid, encoded.patch_size, size, pixels)
    parts = torch.from_numpy(tokens).split(1)
    maps = [method.forward(F.normalize(part, dim=1))[0] for part in parts]
    return np.stack([Explanation("", one, resize).heatmap for one in maps])


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", choices=list(VISION), default=["ViT-B-32", "ViT-B-16"]
    )
    parser.add_argument("--size", type=int, help="input pixels [the model's own]")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
