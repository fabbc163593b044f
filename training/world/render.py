"""Draw a scene: background, ground and things, with the exact visible mask of every thing."""

import numpy as np
from PIL import Image, ImageDraw

from training.world.scenes import Scene
from training.world.sprites import SpriteBook

GROUND_COLOURS = {
    "grass": (96, 160, 62),
    "snow": (236, 242, 250),
    "road": (92, 92, 98),
    "water": (70, 140, 205),
    "sand": (226, 200, 140),
    "table": (150, 98, 56),
}


def render(scene: Scene, sprites: SpriteBook, size: int) -> tuple[Image.Image, np.ndarray]:
    """Draw `scene` at `size` x `size` pixels.

    Returns:
        The RGB image and the visible masks, bool [things, size, size].
    """
    rng = np.random.default_rng(scene.paint_seed)
    canvas = _background(scene.background, rng, size)
    if scene.place is not None:
        _ground(canvas, scene.place, round(scene.horizon * size), rng)
    masks = np.zeros((len(scene.things), size, size), dtype=bool)
    for i, thing in enumerate(scene.things):
        picture = sprites.draw(
            thing.name, thing.style, side=thing.side * size, angle=thing.angle,
            mirror=thing.mirror, tint=thing.tint,
        )  # fmt: skip
        corner = (
            round(thing.x * size - picture.width / 2),
            round(thing.y * size - picture.height / 2),
        )
        canvas.paste(picture, corner, picture)
        layer = Image.new("L", (size, size))
        layer.paste(picture.getchannel("A"), corner)
        visible = np.asarray(layer) > 127
        masks[:i] &= ~visible  # later things stand in front
        masks[i] = visible
    return canvas, masks


def _colour(rng: np.random.Generator) -> np.ndarray:
    """A colour that is not too strong to be a background."""
    grey = rng.uniform(60, 235)
    return np.clip(grey + rng.normal(0, 30, 3), 0, 255)


def _background(kind: str, rng: np.random.Generator, size: int) -> Image.Image:
    first, second = _colour(rng), _colour(rng)
    if kind == "plain":
        small = np.broadcast_to(first, (1, 1, 3))
    elif kind == "gradient":
        ramp = np.linspace(0, 1, 8)[:, None]
        weight = ramp if rng.random() < 0.5 else ramp.T
        small = first + (second - first) * np.broadcast_to(weight, (8, 8))[..., None]
    elif kind == "blobs":
        small = first + rng.normal(0, 22, (5, 5, 3))
    else:
        cells = int(rng.integers(3, 9))
        odd = np.add.outer(np.arange(cells), np.arange(cells)) % 2
        small = first + (0.4 * (second - first)) * odd[..., None]
    picture = Image.fromarray(np.clip(small, 0, 255).astype(np.uint8), "RGB")
    resample = Image.Resampling.NEAREST if kind == "checks" else Image.Resampling.BILINEAR
    return picture.resize((size, size), resample)


def _ground(canvas: Image.Image, place: str, top: int, rng: np.random.Generator) -> None:
    """Cover the canvas below row `top` with the ground of a place."""
    size = canvas.width
    height = size - top
    base = np.array(GROUND_COLOURS[place]) + rng.normal(0, 8, 3)
    if place in ("grass", "sand"):  # fine grain
        grain = rng.normal(0, 16 if place == "grass" else 9, (height // 2 + 1, size // 2, 1))
    elif place in ("water", "table"):  # waves, boards: variation from row to row
        grain = np.repeat(rng.normal(0, 14, (max(2, height * 10 // size), 1, 1)), 2, axis=1)
    else:
        grain = rng.normal(0, 4, (4, 4, 1))
    texture = np.clip(base + grain, 0, 255).astype(np.uint8)
    band = Image.fromarray(texture, "RGB").resize((size, height), Image.Resampling.BILINEAR)
    canvas.paste(band, (0, top))
    if place == "road":
        _lane_marks(canvas, top + height // 2, size)


def _lane_marks(canvas: Image.Image, row: int, size: int) -> None:
    pen = ImageDraw.Draw(canvas)
    for left in range(0, size, max(8, size // 5)):
        pen.rectangle(
            [left, row, left + size // 10, row + max(1, size // 40)], fill=(240, 240, 230)
        )
