"""The example pictures: composed scenes with a mask a thing and one label map for all."""

from pathlib import Path

import numpy as np
from PIL import Image

from training.world.batches import scene_rng
from training.world.names import PLACES
from training.world.render import render
from training.world.scenes import sample_scene
from training.world.sprites import TRAINING_STYLES, SpriteBook

SEED, SIZE = 2000, 320


def draw_examples(folder: Path = Path("examples"), count: int = 3) -> None:
    """Write `count` scenes of three things: N.png, N-THING.png (masks) and N-labels.png.

    Args:
        folder: where to.
        count: how many.
    """
    sprites = SpriteBook(TRAINING_STYLES)
    folder.mkdir(parents=True, exist_ok=True)
    number = found = 0
    while found < count:
        scene = sample_scene(scene_rng(SEED, number), 3, styles=TRAINING_STYLES)
        number += 1
        if scene.place != PLACES[found % len(PLACES)]:  # one place after the other
            continue
        found += 1
        picture, masks = render(scene, sprites, SIZE)
        picture.save(folder / f"{scene.place}.png")
        labels = np.zeros((SIZE, SIZE), np.uint8)
        for label, (thing, mask) in enumerate(zip(scene.things, masks, strict=True), start=1):
            labels[mask] = label
            name = thing.name.replace(" ", "_")
            Image.fromarray(mask).save(folder / f"{scene.place}-{name}.png")
        Image.fromarray(labels).save(folder / f"{scene.place}-labels.png")
