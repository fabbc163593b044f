"""Batches of scenes, which depend on nothing but seed and batch number."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch.utils.data import IterableDataset

from training.world.names import PAD, build_tokenizer
from training.world.render import render
from training.world.scenes import Scene, sample_scene
from training.world.sprites import TRAINING_STYLES, SpriteBook


@dataclass(frozen=True)
class Stage:
    """A stretch of training on one kind of scene.

    Args:
        steps: number of batches in this stage.
        batch: number of scenes in a batch.
        size: canvas side in pixels, a multiple of the patch.
        counts: weights of scenes with 1, 2, 3, 4 things.
        sides: bounds of a thing's size as a fraction of the canvas; None: by the number of things.
        negatives: false captions per scene, wrong in one word (Yuksekgonul et al. 2023).
        patch_dropout: share of the patches that the CLIP does not see (Li et al. 2023, FLIP).
    """

    steps: int
    batch: int
    size: int
    counts: tuple[float, ...] = (0.15, 0.25, 0.35, 0.25)
    sides: tuple[float, float] | None = None
    negatives: int = 0
    patch_dropout: float = 0.0


def scene_rng(seed: int, *place: int) -> np.random.Generator:
    """Generator of random numbers that are independent of those of any other batch or scene."""
    return np.random.default_rng([seed, *place])


class CaptionBatches(IterableDataset):
    """Batches for the contrastive loss, of whole images and captions.

    Yields dicts of `pixels` uint8 [B, 3, S, S], `texts` int64 [B + negatives * B, L], true captions
    first, padded to the longest, `same` bool [B, B]: which captions say the same (order aside), and
    `patch_dropout` of the stage.

    Args:
        stages: one after the other.
        seed: world seed.
        first: number of the first batch, for resumed runs.
        styles: drawing styles.
    """

    def __init__(
        self,
        stages: list[Stage],
        seed: int,
        first: int = 0,
        styles: tuple[str, ...] = TRAINING_STYLES,
    ) -> None:
        self.stages, self.seed, self.first, self.styles = stages, seed, first, styles

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield the batches from number `first` to the end of the last stage."""
        sprites = SpriteBook(self.styles)
        tokenizer = build_tokenizer(wrap=True)
        tokenizer.enable_padding(pad_id=tokenizer.token_to_id(PAD), pad_token=PAD)
        number = 0
        for stage in self.stages:
            for _ in range(stage.steps):
                if number >= self.first:
                    rng = scene_rng(self.seed, number)
                    yield _caption_batch(stage, rng, sprites, tokenizer, self.styles)
                number += 1


def _caption_batch(
    stage: Stage, rng: np.random.Generator, sprites: SpriteBook, tokenizer: Any,
    styles: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    weights = np.array(stage.counts) / sum(stage.counts)
    scenes = [
        sample_scene(rng, int(count), styles=styles, sides=stage.sides)
        for count in rng.choice(np.arange(len(weights)) + 1, size=stage.batch, p=weights)
    ]
    pictures = [np.asarray(render(scene, sprites, stage.size)[0]) for scene in scenes]
    orders = [rng.permutation(len(scene.things)) for scene in scenes]
    texts = [scene.caption(order) for scene, order in zip(scenes, orders, strict=True)]
    for _ in range(stage.negatives):
        texts += [
            scene.falsified(rng).caption(order) for scene, order in zip(scenes, orders, strict=True)
        ]
    ids = [row.ids for row in tokenizer.encode_batch(texts)]
    return {
        "pixels": torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).contiguous(),
        "texts": torch.tensor(ids),
        "same": _same(scenes),
        "patch_dropout": stage.patch_dropout,
    }


def _same(scenes: list[Scene]) -> torch.Tensor:
    keys: dict[tuple[str, ...], int] = {}
    ids = [
        keys.setdefault(tuple(sorted(thing.phrase for thing in scene.things)), len(keys))
        for scene in scenes
    ]
    row = torch.tensor(ids)
    return row[:, None] == row[None, :]
