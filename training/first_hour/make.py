"""Compose the bundled training examples: scenes of the mini world as manifests and JPEG files.

`python -m training.first_hour.make` writes what ships in this folder (fetches the pictograms from
the npm registry).
"""

import json
from pathlib import Path
from typing import Any

import numpy as np

from regionlm.extras import extra
from training.world.render import render
from training.world.scene_batches import scene_rng
from training.world.scenes import Scene, sample_scene
from training.world.sprites import TRAINING_STYLES, SpriteBook

with extra("train"):
    from pycocotools import mask as coco


SEED = 4000  # used for no other set of scenes
SIDE = 192  # pixels
COUNTS = (2, 3, 4)  # things in a scene, in turn
SMALLEST = 64  # visible pixels of a thing, at least
FOLDER = Path(__file__).parent


def make_examples(folder: Path = FOLDER, scenes: int = 320) -> None:
    """Write images, regions.jsonl and images.jsonl.

    Args:
        folder: folder to write to.
        scenes: number of scenes.
    """
    book = SpriteBook(TRAINING_STYLES)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    regions, images = [], []
    for number in range(scenes):
        rng = scene_rng(SEED, number)
        scene = sample_scene(rng, COUNTS[number % len(COUNTS)], styles=book.styles)
        picture, masks = render(scene, book, SIDE)
        name = f"images/{number}.jpg"
        picture.save(folder / name, quality=88)
        caption = scene.caption(rng.permutation(len(scene.things)))
        images.append({"image": name, "caption": caption})
        regions.append({"image": name, "regions": _regions(scene, masks)})
    _write(folder / "regions.jsonl", regions)
    _write(folder / "images.jsonl", images)


def _regions(scene: Scene, masks: np.ndarray) -> list[dict[str, Any]]:
    found = []
    for thing, mask in zip(scene.things, masks, strict=True):
        if mask.sum() >= SMALLEST:
            code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
            rle = {"size": list(code["size"]), "counts": code["counts"].decode()}
            found.append({"rle": rle, "caption": thing.phrase})
    return found


def _write(path: Path, lines: list[dict[str, Any]]) -> None:
    text = "".join(json.dumps(line) + "\n" for line in lines)
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(make_examples, as_positional=False)
