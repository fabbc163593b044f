"""Hold attention-pooled models against the authors' packages: LeGrad's maps, and a vector.

    python benchmarks/published_pooled.py                                   # SigLIP B/16, CoCa B/32
    python benchmarks/published_pooled.py --models tiny-siglip tiny-coca    # seconds
    python benchmarks/published_pooled.py --write-references                # renew the tests' files

Maps are those of ``score="published"``, for ``layer_index`` -1, -2 and 0 (all layers), plain and
for SigLIP also with the correction by an empty text (``empty_text=0.8``), in float64, at every
pixel of the input. Their SigLIP code scales a map to [0, 1] before it enlarges it and ours after,
here and in MaskInversion, so vectors (one mask, float64) are alike but not equal; with several
masks their SigLIP code explains the sum of all of them, so those are not compared at all.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from published.cases import mask_arrays
from published.compare import BENCHMARKS
from published.environment import authors_python, default_folder
from published.pooled_cases import LAYERS, POOLED, build_pooled, pixel_array, seeded_vectors

from regionlm import ClipViT
from regionlm.embedders import MaskInversion
from regionlm.relevance import make_relevance
from regionlm.relevance.resize import GridToMask

REFERENCES = BENCHMARKS.parent / "tests" / "regionlm" / "reference" / "pooled"
MOST = 1e-6  # difference of two maps in [0, 1]


def main() -> int:
    """Run what the options ask for; 1 if maps differ."""
    options = parse_options()
    python = authors_python(default_folder() / "venv")
    if options.write_references:
        return write_references(python)
    failed = 0
    print("| model | size | layers | correction | max map difference | within the bar |")
    print("|---|---|---|---|---|---|")
    for model in options.models:
        size = options.size or POOLED[model][1]["image_size"]
        for index in (-1, -2, 0):
            layers = -index or LAYERS[model]
            for kind, difference in compare_maps(python, model, size, index).items():
                good = difference <= MOST
                failed += not good
                cells = [model, size, layers, kind, f"{difference:.1e}", "yes" if good else "no"]
                print("|", " | ".join(map(str, cells)), "|", flush=True)
    for model in options.models:
        if "timm_model_name" in POOLED[model][1]:
            size = options.size or POOLED[model][1]["image_size"]
            found = compare_vectors(python, model, size)
            print(f"{model}, {size} px, 1 mask, 10 steps: cosine of the vectors {found:.6f}")
    return int(failed > 0)


def compare_maps(python: Path, model: str, size: int, layer_index: int) -> dict[str, float]:
    """The largest difference at any pixel, without and (SigLIP) with the correction."""
    theirs = their_maps(python, model, size, layer_index)
    layers = -layer_index or LAYERS[model]
    return {
        kind: float(abs(found - theirs["maps" if kind == "none" else "corrected"]).max())
        for kind, found in our_maps(model, size, layers).items()
    }


def their_maps(python: Path, model: str, size: int, layer_index: int) -> dict[str, np.ndarray]:
    """``maps`` and ``corrected``, ``[T, size, size]`` in [0, 1]."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "theirs.npz"
        run_theirs(python, ["maps", model, str(size), str(layer_index), str(output)])
        return dict(np.load(output))


def our_maps(model: str, size: int, layers: int) -> dict[str, np.ndarray]:
    """Ours of the same tokens, by the kind of correction: ``none``, SigLIP's ``empty text``."""
    is_siglip = "timm_model_name" in POOLED[model][1]
    backbone, pixels = our_backbone(model), torch.from_numpy(pixel_array(size))
    encoded = backbone.encode(pixels, layers=layers)
    resize = GridToMask.of(encoded.grid, encoded.patch_size, (size, size), pixels)
    found = {}
    for label, threshold in (("none", None), ("empty text", 0.8))[: 1 + is_siglip]:
        method = make_relevance(
            "legrad", backbone, encoded, score="published", empty_text=threshold
        )
        tokens = torch.from_numpy(seeded_vectors(model, 4)).split(1)
        maps = torch.cat([method.forward(one).clone() for one in tokens])
        heatmaps = resize.upsample(on_the_grid(maps)) if is_siglip else resize.heatmaps(maps)
        found[label] = heatmaps.numpy()
    return found


def on_the_grid(maps: torch.Tensor) -> torch.Tensor:
    """Min-max scaled before they are enlarged."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / (high - low)


def write_references(python: Path) -> int:
    """Their maps of the tiny models, of the last layer and of all, for the tests."""
    REFERENCES.mkdir(parents=True, exist_ok=True)
    for model in ("tiny-siglip", "tiny-coca"):
        stored = {}
        for index in (-1, 0):
            theirs = their_maps(python, model, POOLED[model][1]["image_size"], index)
            layers = -index or LAYERS[model]
            # Every third pixel says as much about a bilinear map of patches of 8.
            stored |= {f"{name} {layers}": maps[:, ::3, ::3] for name, maps in theirs.items()}
        np.savez_compressed(REFERENCES / f"{model}.npz", **stored)
    return 0


def compare_vectors(python: Path, model: str, size: int) -> float:
    """Cosine of their vector for one mask and ours."""
    with tempfile.TemporaryDirectory() as folder:
        output = Path(folder) / "theirs.npz"
        run_theirs(python, ["invert", model, str(size), str(output)])
        theirs = torch.from_numpy(np.load(output)["let"])
    embedder = MaskInversion(our_backbone(model), size=size, score="published", empty_text=0.8)
    ours = embedder(torch.from_numpy(pixel_array(size))[0], mask_arrays(1)).embeddings
    return float(torch.nn.functional.cosine_similarity(ours, theirs)[0])


def our_backbone(model: str) -> ClipViT:
    """The model, to which every text is the seeded empty one."""
    backbone = ClipViT(build_pooled(model, "float64"))
    empty = torch.from_numpy(seeded_vectors(model, 1, seed=4)).to(backbone.dtype)
    backbone.embed_texts = lambda texts: empty  # type: ignore[method-assign]
    return backbone


def run_theirs(python: Path, arguments: list[str]) -> None:
    """A command of their side."""
    command = [str(python), "-m", "published.authors_pooled", *arguments]
    subprocess.run(command, check=True, cwd=BENCHMARKS, capture_output=True)


def parse_options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--models", nargs="+", choices=list(POOLED), default=["ViT-B-16-SigLIP", "coca_ViT-B-32"]
    )
    parser.add_argument("--size", type=int, help="input pixels [the model's own]")
    parser.add_argument("--write-references", action="store_true", help="renew the tests' files")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
