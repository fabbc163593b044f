"""Train a prefix on your own regions: a manifest with captions in, a bundle out.

python examples/train_on_regions.py [MANIFEST [OUTPUT [STEPS]]]

A line of the manifest: {"image": "1.jpg", "regions": [{"box": [3, 9, 80, 60], "caption": "a cat"}]}
Without arguments it takes 20 steps on the bundled scenes. `pip install ".[train]"` first.
"""

from __future__ import annotations

import sys
from pathlib import Path

from regionlm import RegionCaptioner
from training.fit_settings import Fit, PairSet, Recipe, Start
from training.pipeline import fit

HERE = Path(__file__).parent
BUNDLED = HERE.parent / "training" / "first_hour" / "regions.jsonl"


def main(manifest: Path, output: Path, steps: int, limit: int | None = None) -> RegionCaptioner:
    """Embed the regions, train on them, write OUTPUT/bundle, and caption an image with it."""
    settings = Fit(
        output=output,
        data=[PairSet("manifest", {"path": str(manifest)}, limit=limit)],
        start=Start(bundle="mini", prefix="zero-shot", new_prefix="mine"),
        recipe=Recipe(steps=steps, batch_size=32, warmup=5, noise=0.12),
        trainer={"accelerator": "auto", "devices": 1, "enable_progress_bar": False},
        store=output.with_name(output.name + "-embeddings"),  # made once, used by every later run
    )
    captioner = fit(settings)
    for region in captioner.caption(HERE / "sand.png", HERE / "sand-labels.png"):
        print(f"{region.region}: {region.text}")
    return captioner


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        Path(given[0]) if given else BUNDLED,
        Path(given[1] if len(given) > 1 else "runs/train_on_regions"),
        int(given[2]) if len(given) > 2 else 20,
    )
