"""MaskInversion with ``speed="fast"``."""

import pytest
import torch
import torch.nn.functional as F

from regionlm import ClipViT, InputError, MaskInversion
from regionlm.embedders.dice import GridDice
from regionlm.relevance import LeGrad
from regionlm.relevance.few_rows import few_rows


@pytest.fixture
def few(monkeypatch):
    """So few rows that tiny grids are large ones."""
    monkeypatch.setattr(MaskInversion, "fast_rows", 4)


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("layers", [1, 2])
def test_fast_is_near_exact_and_its_map_is_exact(tiny_clip, picture, masks, few, pool, layers):
    backbone = ClipViT(tiny_clip(pool=pool, layers=3))
    options = {"size": 64, "layers": layers}
    exact = MaskInversion(backbone, **options)(picture, masks)
    fast = MaskInversion(backbone, **options, speed="fast")(picture, masks)
    assert (exact.speed, fast.speed) == ("exact", "fast")
    assert not fast.embeddings.equal(exact.embeddings)
    assert F.cosine_similarity(fast.embeddings, exact.embeddings, dim=1).mean() > 0.9
    assert (fast.dice - exact.dice).abs().mean() < 0.05
    encoded = backbone.encode(backbone.preprocess(picture, 64)[None])
    if layers == 1:
        whole = LeGrad(encoded, masks=4).forward(F.normalize(fast.embeddings, dim=1))
        torch.testing.assert_close(fast.relevance, whole)
        loss, _ = GridDice(fast.resize, torch.from_numpy(masks))(whole)
        torch.testing.assert_close(fast.dice, 1 - loss)


def test_the_first_step_is_exact(tiny_clip, picture, masks, few):
    backbone = ClipViT(tiny_clip())
    one = {"size": 64, "steps": 1, "alpha": 0.5}
    exact = MaskInversion(backbone, **one)(picture, masks)
    fast = MaskInversion(backbone, **one, speed="fast")(picture, masks)
    assert fast.embeddings.equal(exact.embeddings) and fast.loss.equal(exact.loss)
    none = MaskInversion(backbone, size=64, steps=0, speed="fast")(picture, masks)
    assert none.embeddings.equal(none.image_embedding.expand_as(none.embeddings))


def test_fast_is_exact_on_small_grids(tiny_clip, picture, masks):
    backbone = ClipViT(tiny_clip())
    exact = MaskInversion(backbone, size=32)(picture, masks)
    fast = MaskInversion(backbone, size=32, speed="fast")(picture, masks)
    assert fast.embeddings.equal(exact.embeddings) and fast.speed == "fast"


def test_attention_pools_have_no_rows_to_leave_out(tiny_clip):
    backbone = ClipViT(tiny_clip(attentional_pool=True, attn_pooler_queries=3, attn_pooler_heads=4))
    with pytest.raises(InputError, match="speed: expected exact with custom, found fast"):
        MaskInversion(backbone, speed="fast")


def test_company_decides_no_rows(tiny_clip, picture, masks, few):
    """The rows depend on the image alone, so masks don't meet in them."""
    embedder = MaskInversion(ClipViT(tiny_clip()), size=64, speed="fast")
    together = embedder(picture, masks[[2, 0, 3, 1]]).embeddings
    for place, index in enumerate([2, 0, 3, 1]):
        assert embedder(picture, masks[[index]]).embeddings[0].equal(together[place])


@pytest.mark.parametrize("relevance", ["gradcam", "gradcam_no_relu", "chefer"])
def test_relevance_without_fewer_rows_is_refused(tiny_clip, relevance):
    with pytest.raises(InputError, match=f"speed: expected exact with relevance {relevance}"):
        MaskInversion(ClipViT(tiny_clip()), relevance=relevance, speed="fast")
    backbone = ClipViT(tiny_clip(), inversion_defaults={"relevance": relevance})
    with pytest.raises(InputError, match="found fast"):
        MaskInversion(backbone, speed="fast")


def test_unknown_speed(tiny_clip):
    with pytest.raises(InputError, match=r"speed: expected exact or fast, found 'quick'"):
        MaskInversion(ClipViT(tiny_clip()), speed="quick")


def test_answers_say_fast(tiny_clip):
    backbone = ClipViT(tiny_clip())
    assert MaskInversion(backbone).record == {}
    assert MaskInversion(backbone, speed="fast").record == {"speed": "fast"}


def test_what_the_rows_miss_at_the_start_is_added(tiny_clip, picture, masks, few):
    """So the map that the second step follows is the rough one, plus a constant of the image."""
    backbone = ClipViT(tiny_clip().double())
    one = MaskInversion(backbone, size=64, steps=1)(picture, masks)
    two = MaskInversion(backbone, size=64, steps=2, speed="fast")(picture, masks)
    encoded = backbone.encode(backbone.preprocess(picture, 64).double()[None])
    whole = LeGrad(encoded, masks=4)
    some = LeGrad(encoded, rows=few_rows(encoded, 4), masks=4)
    token = F.normalize(one.image_embedding[None], dim=1)
    maps = some.forward(F.normalize(one.embeddings, dim=1))
    maps = maps + whole.forward(token) - some.forward(token)
    loss, _ = GridDice(two.resize, torch.from_numpy(masks))(maps)
    torch.testing.assert_close(two.loss[1], loss)
