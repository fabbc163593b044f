"""What a mask gives doesn't depend on its company: not in one bit."""

import gc
from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from regionlm.backbones import ClipViT
from regionlm.embedders import EMBEDDERS, MaskInversion
from regionlm.relevance import RELEVANCE, Budget
from regionlm.relevance.attention_gradient import AttentionGradient
from regionlm.relevance.attention_map import AttentionMap

SIZE = 24, 40
MODES = {
    "no grad": torch.no_grad,
    "inference": torch.inference_mode,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "plain": nullcontext,
}


@st.composite
def boxes(draw, most=12):
    """Masks as people draw them: of a pixel, at a border, over each other, of everything."""
    height, width = SIZE
    masks = np.zeros((draw(st.integers(1, most)), height, width), bool)
    for mask in masks:
        top, left = draw(st.integers(0, height - 1)), draw(st.integers(0, width - 1))
        below, right = draw(st.integers(top + 1, height)), draw(st.integers(left + 1, width))
        mask[top:below, left:right] = True
    return masks


def bits(found):
    """All that a mask is given, by name, the masks first."""
    return {
        "embeddings": found.embeddings,
        "rescaled": found.rescaled(),
        "cosine": found.cosine_to_image,
        "relevance": found.relevance,
        "heatmaps": found.heatmaps(),
        "loss": found.loss.T,
        "dice": found.dice,
        "iou": found.iou,
    }


def assert_same_bits(found, wanted, which):
    """``found`` has the masks ``which`` of ``wanted``, in that order."""
    wanted = bits(wanted)
    for name, value in bits(found).items():
        assert torch.equal(value, wanted[name][which]), name


@pytest.fixture(scope="module")
def embedders(tiny_clip):
    """By relevance and pooling; LeGrad of two layers, too."""
    found = {}
    for pool in ("tok", "avg"):
        backbone = ClipViT(tiny_clip(pool))
        for relevance in RELEVANCE:
            found[relevance, pool] = MaskInversion(backbone, steps=4, lr=0.5, relevance=relevance)
        found["fast", pool] = MaskInversion(backbone, steps=4, lr=0.5, speed="fast")
        found["two layers", pool] = MaskInversion(backbone, steps=4, lr=0.5, layers=2, alpha=1.0)
    pooled = ClipViT(tiny_clip(attentional_pool=True, attn_pooler_heads=4))
    for relevance in ("legrad", "gradcam"):
        found[relevance, "attention"] = MaskInversion(pooled, steps=4, relevance=relevance)
    return found


KINDS = [(name, pool) for name in (*RELEVANCE, "fast", "two layers") for pool in ("tok", "avg")]
KINDS += [("legrad", "attention"), ("gradcam", "attention")]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.sampled_from(KINDS), boxes(), st.sampled_from(sorted(MODES)))
def test_alone_permuted_and_in_any_chunk(embedders, data, kind, masks, mode):
    embedder, pixels = embedders[kind], torch.randn(3, *SIZE)
    wanted = embedder(pixels, masks)
    one = data.draw(st.integers(0, len(masks) - 1))
    assert_same_bits(embedder(pixels, masks[[one]]), wanted, [one])
    some = data.draw(st.lists(st.integers(0, len(masks) - 1), min_size=1))  # and twice the same
    budget = Budget(data.draw(st.integers(1, 10**6)), 10**6, data.draw(st.integers(0, 10**6)))
    with pytest.MonkeyPatch.context() as patched, MODES[mode]():
        patched.setattr(Budget, "for_device", lambda device: budget)
        assert_same_bits(embedder(pixels, masks[some]), wanted, some)


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_any_number_of_threads(embedders, kind):
    masks = np.random.default_rng(0).random((7, *SIZE)) > 0.5
    embedder, pixels, before = embedders[kind], torch.randn(3, *SIZE), torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(embedder(pixels, masks))
    finally:
        torch.set_num_threads(before)
    assert_same_bits(*found, slice(None))


def test_thousands_of_masks(embedders):
    masks = np.random.default_rng(0).random((1000, *SIZE)) > 0.7
    embedder, pixels = embedders["legrad", "tok"], torch.randn(3, *SIZE)
    wanted = embedder(pixels, masks)
    order = np.random.default_rng(1).permutation(1000)
    assert_same_bits(embedder(pixels, masks[order]), wanted, order)
    assert_same_bits(embedder(pixels, masks[777:778]), wanted, [777])


@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError, MemoryError])
@pytest.mark.parametrize("speed", ["exact", "fast"])
def test_without_memory_for_more_there_are_fewer_at_once(tiny_clip, monkeypatch, error, speed):
    masks = np.random.default_rng(0).random((23, *SIZE)) > 0.5
    embedder = MaskInversion(ClipViT(tiny_clip()), steps=4, lr=0.5, speed=speed)
    pixels, asked, most = torch.randn(3, *SIZE), [], 3
    wanted = embedder(pixels, masks)
    forward = AttentionGradient.forward

    def fails(self, q):
        asked.append(len(q))
        if len(q) > most:
            raise error("no memory")
        return forward(self, q)

    monkeypatch.setattr(AttentionGradient, "forward", fails)
    assert_same_bits(embedder(pixels, masks), wanted, slice(None))
    assert [count for count in asked if count > most] == [23, 11, 5]
    most = 0
    with pytest.raises(error, match="no memory"):
        embedder(pixels, masks)


@pytest.fixture
def one_thread():
    """With more, products as small as these are divided by their size, that of the batch."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@settings(
    max_examples=30,
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)
@given(st.data(), st.sampled_from(KINDS), st.sampled_from(sorted(MODES)))
def test_images_beside_others(embedders, one_thread, data, kind, mode):
    masks = data.draw(st.lists(boxes(3), min_size=2, max_size=10))
    embedder, pixels = embedders[kind], torch.randn(len(masks), 3, *SIZE)
    with MODES[mode]():
        together = embedder.localize_batch(list(pixels), masks)
    for found, image, some in zip(together, pixels, masks, strict=True):
        assert_same_bits(found, embedder(image, some), slice(None))


@pytest.fixture
def tokens_at_once(monkeypatch):
    """How many tokens each forward of a map was asked for."""
    asked, forward = [], AttentionMap.forward

    def counts(self, tokens):
        asked.append(len(tokens))
        return forward(self, tokens)

    monkeypatch.setattr(AttentionMap, "forward", counts)
    return asked


@pytest.mark.parametrize("speed", ["exact", "fast"])
def test_small_images_are_inverted_at_once(tiny_clip, tokens_at_once, speed):
    """Eight at most, and with so many masks as fit into what is worked on at once."""
    embedder = MaskInversion(ClipViT(tiny_clip()), steps=2, speed=speed)
    pixels, masks = torch.randn(9, 3, *SIZE), np.ones((9, 2, *SIZE), bool)
    embedder.localize_batch(list(pixels), list(masks))
    assert set(tokens_at_once) == {16, 1, 2}
    tokens_at_once.clear()
    with pytest.MonkeyPatch.context() as patched:
        budget = Budget(7 * 8000, 10**6, 10**6)
        patched.setattr(Budget, "for_device", lambda device: budget)
        embedder.localize_batch(list(pixels), list(masks))
    assert 1 < max(tokens_at_once) < 16


def test_images_of_other_sizes_or_places_are_not_inverted_at_once(
    tiny_clip, tokens_at_once, one_thread
):
    embedder = MaskInversion(ClipViT(tiny_clip()), steps=2, size=32, resize="pad")
    images = [Image.fromarray(np.full((*size, 3), 99, np.uint8)) for size in ((16, 32), (32, 16))]
    masks = [np.ones((1, image.height, image.width), bool) for image in images]
    found = embedder.localize_batch(images, masks)
    assert set(tokens_at_once) == {1}
    tokens_at_once.clear()
    again = embedder.localize_batch([images[0], *images], [masks[0], *masks])
    assert max(tokens_at_once) == 2
    for one, wanted in zip(again, [found[0], *found], strict=True):
        assert_same_bits(one, wanted, slice(None))


def test_without_memory_for_several_images_there_is_one_at_a_time(
    tiny_clip, monkeypatch, one_thread
):
    embedder = MaskInversion(ClipViT(tiny_clip()), steps=3)
    pixels, masks = torch.randn(4, 3, *SIZE), np.ones((4, 1, *SIZE), bool)
    wanted = embedder.localize_batch(list(pixels), list(masks))
    forward, asked = AttentionGradient.forward, []

    def fails(self, q):
        asked.append(len(q))
        if len(q) > 1:
            raise RuntimeError("no memory")
        return forward(self, q)

    monkeypatch.setattr(AttentionGradient, "forward", fails)
    for one, found in zip(embedder.localize_batch(list(pixels), list(masks)), wanted, strict=True):
        assert_same_bits(one, found, slice(None))
    assert asked[0] == 4 and set(asked[1:]) == {1}


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("name", EMBEDDERS)
def test_all_embedders(make, tiny_clip, picture, masks, one_thread, name, pool):
    embedder = make(name, ClipViT(tiny_clip(pool)), size=32)
    together = embedder(picture, np.concatenate([masks, masks[::-1], masks]))
    for number in range(len(masks)):
        (alone,) = embedder(picture, masks[[number]]).embeddings
        assert torch.equal(alone, together.embeddings[number])


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("name", EMBEDDERS)
def test_all_embedders_beside_another_image(
    make, tiny_clip, picture, masks, one_thread, name, pool
):
    embedder = make(name, ClipViT(tiny_clip(pool)), size=32)
    flipped = picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    beside, _ = embedder.localize_batch([picture, flipped], [masks, masks])
    assert torch.equal(beside.embeddings, embedder(picture, masks).embeddings)


def test_calls_leave_nothing_behind(embedders):
    embedder, pixels = embedders["legrad", "tok"], torch.randn(3, *SIZE)
    counts = []
    for _ in range(8):
        embedder(pixels, np.ones((2, *SIZE), bool))
        gc.collect()
        counts.append(sum(issubclass(type(one), torch.Tensor) for one in gc.get_objects()))
    # Other threads make some at times; what is left behind is there in all.
    assert min(counts[4:]) <= counts[1]
