"""How well `mini` names regions of freshly composed scenes: the table in eval/MINI.md.

`python -m training.mini.naming --output eval/MINI.md`
"""

import itertools
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import normalize

from regionlm.captioner import RegionCaptioner
from regionlm.embedders import MaskInversion, make_embedder
from training.mini.decoder import ADAPTED, ZERO_SHOT
from training.world.names import pictograms
from training.world.render import render
from training.world.scene_batches import scene_rng
from training.world.scenes import Scene, sample_scene
from training.world.sprites import HELD_OUT_STYLES, TRAINING_STYLES, SpriteBook

THINGS = 3
CANVAS = 256  # pixels of the composed pictures
COLUMNS = ("picks its phrase", "noun, adapted", "noun, zero-shot", "Dice", "IoU")

Embed = Callable[[Image.Image, np.ndarray], tuple[Tensor, Tensor | None]]


@dataclass(frozen=True)
class DrawnScene:
    """A scene with its image and its masks, bool ``[3, H, W]``."""

    scene: Scene
    picture: Image.Image
    masks: np.ndarray


def draw_scenes(count: int, styles: tuple[str, ...], seed: int) -> list[DrawnScene]:
    """Draw scenes of three visible things; no training uses these seeds."""
    sprites = SpriteBook(styles)
    found: list[DrawnScene] = []
    numbers = itertools.count()
    while len(found) < count:
        number = next(numbers)
        scene = sample_scene(scene_rng(seed, number), THINGS, styles=styles)
        picture, masks = render(scene, sprites, CANVAS)
        if masks.any((1, 2)).all():
            found.append(DrawnScene(scene, picture, masks))
    return found


def noun(caption: str) -> str | None:
    """The first thing that a caption names; the longest name, if several begin there."""
    names = sorted(pictograms(), key=len, reverse=True)
    match = re.search(rf"\b({'|'.join(map(re.escape, names))})\b", caption)
    return match.group(1) if match else None


def localized(captioner: RegionCaptioner, **options: float) -> Embed:
    """Embed regions by MaskInversion with some options."""
    inversion = MaskInversion(captioner.backbone, **options)

    def embed(picture: Image.Image, masks: np.ndarray) -> tuple[Tensor, Tensor | None]:
        found = inversion(picture, masks)
        return captioner.prefix_embeddings(found), torch.stack([found.dice, found.iou])

    return embed


def baseline(captioner: RegionCaptioner, name: str, **options: object) -> Embed:
    """Embed regions by another embedder, without rescaling."""
    embedder = make_embedder(name, captioner.backbone, **options)

    def embed(picture: Image.Image, masks: np.ndarray) -> tuple[Tensor, Tensor | None]:
        return embedder(picture, masks).embeddings, None

    return embed


def score(captioner: RegionCaptioner, data: Sequence[DrawnScene], embed: Embed) -> list[float]:
    """One row of the table: the means of `COLUMNS` over all regions."""
    rows: list[Tensor] = []
    for example in data:
        embeddings, fit = embed(example.picture, example.masks)
        phrases = [thing.phrase for thing in example.scene.things]
        texts = normalize(captioner.backbone.embed_texts(phrases), dim=1)
        picked = (embeddings @ texts.T).argmax(1) == torch.arange(len(phrases))
        named = [_named(captioner, prefix, embeddings, example) for prefix in (ADAPTED, ZERO_SHOT)]
        if fit is None:
            fit = torch.full((2, len(phrases)), torch.nan)
        rows.append(torch.stack([picked.float(), *named, *fit]))
    return torch.cat(rows, dim=1).mean(1).tolist()


def _named(
    captioner: RegionCaptioner, prefix: str, embeddings: Tensor, example: DrawnScene
) -> Tensor:
    captions = captioner.prefix_model.with_prefix(prefix).generate(embeddings, max_new_tokens=40)
    names = [thing.name for thing in example.scene.things]
    pairs = zip(captions, names, strict=True)
    return torch.tensor([float(noun(caption.text) == name) for caption, name in pairs])


def end_to_end(captioner: RegionCaptioner, data: Sequence[DrawnScene]) -> float:
    """Share of regions that `RegionCaptioner.caption` names correctly, as a user calls it."""
    hits = [
        noun(found.text) == thing.name
        for example in data
        for found, thing in zip(
            captioner.caption(example.picture, example.masks), example.scene.things, strict=True
        )
    ]
    return sum(hits) / len(hits)


def sweeps(defaults: dict[str, float]) -> Iterator[dict[str, float]]:
    """The defaults, and then variants that change one option at a time."""
    yield defaults
    grids = {
        "lr": (0.02, 0.05, 0.1, 0.2, 0.5, 1.0),
        "alpha": (0.0, 0.5, 1.0, 5.0),
        "size": (128, 192, 256, 320, 448),
        "steps": (1, 3, 5, 10, 20, 40),
    }
    for name, values in grids.items():
        for value in values:
            if value != defaults[name]:
                yield {**defaults, name: value}


def measure(
    model: str = "mini",
    scenes: int = 300,
    sweep_scenes: int = 100,
    seed: int = 1000,
    output: Path | None = None,
) -> None:
    """Print the table, and write it to `output`.

    Args:
        model: bundle to measure.
        scenes: number of scenes per main row, with three regions each.
        sweep_scenes: number of scenes per row of the sweeps.
        seed: seed of the scenes; no training uses it.
        output: Markdown file to write; None only prints.
    """
    captioner = RegionCaptioner.from_pretrained(model)
    own_size = captioner.backbone.default_size
    defaults = captioner.backbone.inversion_defaults
    lines = [f"# How `{model}` names regions", "", f"MaskInversion's defaults: `{defaults}`.", ""]
    for title, styles in (
        (f"Styles seen in training ({', '.join(TRAINING_STYLES)})", TRAINING_STYLES),
        (f"Held-out style ({', '.join(HELD_OUT_STYLES)})", HELD_OUT_STYLES),
    ):
        data = draw_scenes(scenes, styles, seed)
        lines += [f"## {title}: {scenes} scenes, {THINGS * scenes} regions", "", *_header()]
        for name, embed in (
            ("MaskInversion", localized(captioner)),
            ("image embedding", baseline(captioner, "cls")),
            ("crop", baseline(captioner, "crop", size=own_size)),
            ("masked crop", baseline(captioner, "masked_crop", extent="box", size=own_size)),
        ):
            lines.append(_row(name, score(captioner, data, embed)))
        lines += ["", f"`RegionCaptioner.caption` names the right thing in "
                  f"{100 * end_to_end(captioner, data):.1f} % of the regions.", ""]  # fmt: skip
    data = draw_scenes(sweep_scenes, TRAINING_STYLES, seed + 1)
    lines += [f"## Sweeps: {sweep_scenes} scenes, {THINGS * sweep_scenes} regions", "", *_header()]
    for options in sweeps(defaults):
        changed = {k: v for k, v in options.items() if v != defaults[k]}
        name = ", ".join(f"{k} {v}" for k, v in changed.items()) or "defaults"
        lines.append(_row(name, score(captioner, data, localized(captioner, **options))))
    text = "\n".join(lines) + "\n"
    print(text)
    if output is not None:
        output.write_text(text, encoding="utf-8")


def _header() -> list[str]:
    return ["| embedding | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]


def _row(name: str, values: Sequence[float]) -> str:
    shares = [f"{100 * value:.1f} %" for value in values[:3]]
    fits = ["" if value != value else f"{value:.3f}" for value in values[3:]]
    return "| " + " | ".join([name, *shares, *fits]) + " |"


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(measure, as_positional=False)
