"""Embeddings of composed scenes, with texts: of whole images, and of regions by MaskInversion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from regionlm.backbones.clip_vit import ClipViT
from training.data.example import Example
from training.embeddings import Shards, embed_source
from training.world.render import render
from training.world.scene_batches import scene_rng
from training.world.scenes import Scene, sample_scene
from training.world.sprites import TRAINING_STYLES, SpriteBook

COUNTS = (0.1, 0.25, 0.4, 0.25)  # weights of scenes with 1, 2, 3, 4 things
_HERE = {"accelerator": "cpu", "devices": 1}


@dataclass(frozen=True)
class PairSource:
    """Scenes of one seed, in shards, of which the last one is for validation.

    Args:
        seed: seed of the world; every set has another one.
        shards: number of shards.
        scenes: number of scenes in a shard.
        workers: threads that compose scenes.
    """

    seed: int
    shards: int
    scenes: int = 500
    workers: int = 0


class Scenes:
    """The scenes of some shards as examples: of things with phrases, or whole images with captions.

    Args:
        source: the scenes.
        shards: which of their shards.
        size: side of the images in pixels.
        regions: whether examples are of things.
    """

    def __init__(self, source: PairSource, shards: range, size: int, regions: bool) -> None:
        self.source, self.shards, self.size, self.regions = source, shards, size, regions
        self.sprites = SpriteBook(TRAINING_STYLES)

    def __len__(self) -> int:
        return len(self.shards) * self.source.scenes

    def __getitem__(self, index: int) -> Example:
        """Compose a scene."""
        place, number = divmod(index, self.source.scenes)
        shard = self.shards[place]
        if not self.regions:
            scene, caption = _captioned(self.source, shard)[number]
            return Example(render(scene, self.sprites, self.size)[0], None, [[caption]])
        scene = _scene(self.source, shard, number)
        picture, masks = render(scene, self.sprites, self.size)
        shown: np.ndarray = np.any(masks, axis=(1, 2))  # a thing may be hidden completely
        texts = [[t.phrase] for t, seen in zip(scene.things, shown, strict=True) if seen]
        return Example(picture, np.asarray(masks)[shown], texts)

    @property
    def key(self) -> dict[str, Any]:
        """All that the examples depend on."""
        return {
            "kind": "region" if self.regions else "image",
            "seed": self.source.seed,
            "shards": list(self.shards),
            "scenes": self.source.scenes,
            "counts": COUNTS,
            "size": self.size,
        }


def image_pairs(
    backbone: ClipViT, source: PairSource, size: int, store: Path
) -> tuple[Shards, Shards]:
    """Embeddings of whole images of `size` pixels, with captions, to train on and to validate."""
    return _pairs(backbone, source, size, "cls", {"size": size}, store)


def region_pairs(
    backbone: ClipViT, inversion: dict[str, Any], source: PairSource, store: Path
) -> tuple[Shards, Shards]:
    """LETs of all things, rescaled as captioners need it, with phrases: training, validation."""
    return _pairs(backbone, source, inversion["size"], "maskinversion", inversion, store)


def _pairs(
    backbone: ClipViT,
    source: PairSource,
    size: int,
    embedder: str,
    options: dict[str, Any],
    store: Path,
) -> tuple[Shards, Shards]:
    def embedded(shards: range) -> Shards:
        scenes = Scenes(source, shards, size, regions=embedder != "cls")
        return embed_source(
            scenes, "scenes", embedder, options, backbone, store, _HERE, workers=source.workers
        )

    last = source.shards - 1
    return embedded(range(last)), embedded(range(last, source.shards))


def _scene(source: PairSource, shard: int, number: int) -> Scene:
    rng = scene_rng(source.seed, shard, number)
    count = int(rng.choice(np.arange(len(COUNTS)) + 1, p=COUNTS))
    return sample_scene(rng, count, styles=TRAINING_STYLES)


@lru_cache(maxsize=2)
def _captioned(source: PairSource, shard: int) -> list[tuple[Scene, str]]:
    """The scenes of a shard with captions, which name the things in a random order."""
    order = scene_rng(source.seed, shard)
    scenes = [_scene(source, shard, number) for number in range(source.scenes)]
    return [(scene, scene.caption(order.permutation(len(scene.things)))) for scene in scenes]
