import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.world.names import phrase
from training.world.render import render
from training.world.scene_batches import CaptionBatches, Stage, scene_rng
from training.world.scenes import Scene, Thing, sample_scene
from training.world.sprites import TRAINING_STYLES, SpriteBook


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_scene_says_what_it_holds(seed, count):
    scene = sample_scene(scene_rng(seed), count, styles=TRAINING_STYLES)
    again = sample_scene(scene_rng(seed), count, styles=TRAINING_STYLES)
    assert scene == again
    assert len({thing.name for thing in scene.things}) == count
    caption = scene.caption(range(count))
    assert all(thing.phrase in caption for thing in scene.things)
    for thing in scene.things:
        assert thing.place in (None, scene.place)
        assert thing.phrase == phrase(thing.name, thing.tint, thing.place)
        assert thing.x - thing.side / 2 >= -0.1 and thing.x + thing.side / 2 <= 1.1


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4))
def test_falsified_scene_differs_in_one_word(seed, count):
    rng = scene_rng(seed)
    scene = sample_scene(rng, count, styles=TRAINING_STYLES)
    other = scene.falsified(rng)
    changed = [(a, b) for a, b in zip(scene.things, other.things, strict=True) if a != b]
    assert len(changed) == 1
    fields = [f.name for f in dataclasses.fields(Thing)]
    assert sum(getattr(changed[0][0], f) != getattr(changed[0][1], f) for f in fields) == 1
    assert other.caption(range(count)) != scene.caption(range(count))


def _thing(name, x, side=0.4):
    return Thing(name, "noto", None, None, x, 0.5, side, 0.0, False)


def test_masks_are_what_is_visible(world):
    sprites = SpriteBook(("noto",))
    scene = Scene((_thing("fox", 0.4), _thing("owl", 0.55)), "plain", None, 0.5, 1)
    picture, masks = render(scene, sprites, 100)
    empty, _ = render(dataclasses.replace(scene, things=()), sprites, 100)
    changed = np.any(np.asarray(picture) != np.asarray(empty), axis=2)
    assert not (masks[0] & masks[1]).any()
    assert (changed & ~masks.any(0)).sum() < 0.1 * changed.sum()  # only soft edges are left out
    assert (masks.any(0) & ~changed).sum() == 0
    alone = render(dataclasses.replace(scene, things=scene.things[:1]), sprites, 100)[1][0]
    assert (masks[0] == (alone & ~masks[1])).all()  # the later thing stands in front
    assert 0 < masks[0].sum() < alone.sum()


@pytest.mark.parametrize("size", [64, 128, 200])
def test_one_scene_at_any_size(world, size):
    scene = sample_scene(scene_rng(5), 3, styles=TRAINING_STYLES)
    picture, masks = render(scene, SpriteBook(), size)
    assert picture.size == (size, size) and masks.shape == (3, size, size)
    share = masks.mean((1, 2))
    reference = render(scene, SpriteBook(), 400)[1].mean((1, 2))
    np.testing.assert_allclose(share, reference, atol=0.02)


def test_batches_resume_where_they_stopped(world):
    stages = [Stage(2, 4, 64, (1.0,), (0.5, 0.9)), Stage(2, 3, 128, negatives=2)]
    whole = list(CaptionBatches(stages, seed=1))
    rest = list(CaptionBatches(stages, seed=1, first=2))
    assert [b["pixels"].shape[-1] for b in whole] == [64, 64, 128, 128]
    assert len(rest) == 2
    for a, b in zip(whole[2:], rest, strict=True):
        assert all(np.array_equal(a[key], b[key]) for key in a)
    assert whole[2]["texts"].shape[0] == 3 * 3 and whole[2]["same"].shape == (3, 3)
    other = next(iter(CaptionBatches(stages, seed=2)))
    assert (other["pixels"] != whole[0]["pixels"]).any()
