"""The example images: composed scenes with one mask per thing and a label map of all."""

from pathlib import Path

import numpy as np
from PIL import Image

from training.world.render import render
from training.world.scene_batches import scene_rng
from training.world.scenes import sample_scene
from training.world.sprites import TRAINING_STYLES, SpriteBook

SEED, SIZE = 2000, 320
SCENES = (
    45,
    127,
    146,
)  # chosen: `mini` names all three things in these; eval/MINI.md tells how often


def draw_examples(folder: Path = Path("examples")) -> None:
    """Write scenes of three things: PLACE.png, PLACE-THING.png (masks) and PLACE-labels.png.

    Args:
        folder: folder to write to.
    """
    sprites = SpriteBook(TRAINING_STYLES)
    folder.mkdir(parents=True, exist_ok=True)
    for number in SCENES:
        scene = sample_scene(scene_rng(SEED, number), 3, styles=TRAINING_STYLES)
        picture, masks = render(scene, sprites, SIZE)
        picture.save(folder / f"{scene.place}.png")
        labels = np.zeros((SIZE, SIZE), np.uint8)
        for label, (thing, mask) in enumerate(zip(scene.things, masks, strict=True), start=1):
            labels[mask] = label
            name = thing.name.replace(" ", "_")
            Image.fromarray(mask).save(folder / f"{scene.place}-{name}.png")
        Image.fromarray(labels).save(folder / f"{scene.place}-labels.png")
