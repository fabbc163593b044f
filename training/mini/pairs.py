"""Embeddings of composed scenes with their texts: whole images, and regions by MaskInversion."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from regionlm.backbones.clip_vit import ClipViT
from regionlm.embedders.maskinversion import MaskInversion
from training.pairs import Pairs, make_or_load, weights_digest
from training.world.batches import scene_rng
from training.world.render import render
from training.world.scenes import Scene, sample_scene
from training.world.sprites import TRAINING_STYLES, SpriteBook

COUNTS = (0.1, 0.25, 0.4, 0.25)  # weights of scenes with 1, 2, 3, 4 things


@dataclass(frozen=True)
class PairSource:
    """Scenes of one seed, in shards.

    Args:
        seed: world seed; differs from that of every other set.
        shards: number of shards.
        scenes: scenes in a shard.
        workers: processes that compose and embed.
    """

    seed: int
    shards: int
    scenes: int = 500
    workers: int = 0


def image_pairs(backbone: ClipViT, source: PairSource, size: int, root: Path) -> list[Pairs]:
    """Image embedding -> caption of the whole scene, both at `size` pixels; by shard."""
    sprites = SpriteBook(TRAINING_STYLES)

    def make(shard: int) -> Pairs:
        scenes = _scenes(source, shard)
        order = scene_rng(source.seed, shard)
        texts = [scene.caption(order.permutation(len(scene.things))) for scene in scenes]
        embeddings = []
        for start in range(0, len(scenes), 50):
            pixels = [
                backbone.preprocess(render(scene, sprites, size)[0], size)
                for scene in scenes[start : start + 50]
            ]
            embeddings.append(backbone.embed_images(torch.stack(pixels)).cpu())
        return Pairs(torch.cat(embeddings), texts)

    key = {"kind": "image", "size": size, **_key(backbone, source)}
    return make_or_load(root, key, source.shards, make, source.workers)


def region_pairs(inversion: MaskInversion, source: PairSource, root: Path) -> list[Pairs]:
    """LET of every thing (rescaled to its image's norm) -> the thing's phrase; by shard."""
    sprites = SpriteBook(TRAINING_STYLES)
    size = inversion.size[0]

    def make(shard: int) -> Pairs:
        embeddings, texts = [], []
        for scene in _scenes(source, shard):
            picture, masks = render(scene, sprites, size)
            shown: np.ndarray = np.any(masks, axis=(1, 2))  # a thing may be hidden altogether
            if shown.any():
                embeddings.append(inversion(picture, masks[shown]).rescaled().cpu())
            texts += [t.phrase for t, seen in zip(scene.things, shown, strict=True) if seen]
        return Pairs(torch.cat(embeddings), texts)

    names = ("steps", "lr", "alpha", "weight_decay", "size", "score", "relevance")
    settings = {name: getattr(inversion, name) for name in names}
    key = {"kind": "region", **settings, **_key(inversion.backbone, source)}
    return make_or_load(root, key, source.shards, make, source.workers)


def _scenes(source: PairSource, shard: int) -> list[Scene]:
    scenes = []
    for i in range(source.scenes):
        rng = scene_rng(source.seed, shard, i)
        count = int(rng.choice(np.arange(len(COUNTS)) + 1, p=COUNTS))
        scenes.append(sample_scene(rng, count, styles=TRAINING_STYLES))
    return scenes


def _key(backbone: ClipViT, source: PairSource) -> dict[str, Any]:
    return {
        "weights": weights_digest(backbone.model),
        "seed": source.seed,
        "scenes": source.scenes,
        "counts": COUNTS,
    }
