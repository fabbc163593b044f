"""A view of an image: the answers are those for the image, the model runs on it once."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from regionlm import (
    ClipViT,
    ImageView,
    InputError,
    MaskInversion,
    RegionCaptioner,
    RegionEncoder,
    make_embedder,
)
from regionlm.embedders import EMBEDDERS

EXAMPLES = Path(__file__).parents[2] / "examples"
MASK = np.zeros((2, 40, 60), bool)
MASK[0, 5:20, 10:30] = MASK[1, 20:, 30:] = True
LOOKS_ONCE = {"maskinversion", "cls", "maskclip", "clip_surgery", "sclip"}
"""Embedders for which a second question about a view runs nothing on its pixels."""


@pytest.fixture
def picture() -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="module")
def mini() -> RegionCaptioner:
    return RegionCaptioner.from_pretrained("mini")


@pytest.fixture
def encoder(tiny_clip) -> RegionEncoder:
    return RegionEncoder(ClipViT(tiny_clip()))


@pytest.fixture
def trunks(monkeypatch) -> list[int]:
    """How many images each run of a trunk saw."""
    seen: list[int] = []
    run = ClipViT.trunk

    def counted(self, pixels, **options):
        seen.append(len(pixels))
        return run(self, pixels, **options)

    monkeypatch.setattr(ClipViT, "trunk", counted)
    return seen


def options(name, write_alphaclip, encoder):
    return {"checkpoint": write_alphaclip(encoder.backbone.model)} if name == "alphaclip" else {}


@pytest.mark.parametrize("name", EMBEDDERS)
def test_answers_are_those_for_the_image(name, encoder, picture, write_alphaclip, trunks):
    embedder = make_embedder(
        name, encoder.backbone, size=32, **options(name, write_alphaclip, encoder)
    )
    wanted = encoder.embed(picture, MASK, embedder=embedder)
    view = encoder.encode(picture, embedder=embedder)
    first = encoder.embed(view, MASK, embedder=embedder)
    trunks.clear()
    second = encoder.embed(view, MASK[1:], embedder=embedder)
    assert (trunks == []) == (name in LOOKS_ONCE)
    assert first.embeddings.equal(wanted.embeddings)
    assert first.image_embedding.equal(wanted.image_embedding)
    torch.testing.assert_close(second.embeddings, wanted.embeddings[1:])


def test_words_matches_and_pieces_of_a_view(mini, trunks):
    image, fox = EXAMPLES / "sand.png", EXAMPLES / "sand-fox.png"
    wanted = mini.caption(image, fox)[0], mini.match(image, fox, ["a fox", "a book"])
    view = mini.encode(image)
    trunks.clear()
    (caption,) = mini.caption(view, fox)
    assert caption.to_dict() == wanted[0].to_dict()
    assert mini.match(view, fox, ["a fox", "a book"]) == wanted[1]
    assert "".join(mini.stream(view, fox)) == caption.text
    assert mini.caption_batch([view, view], [fox, fox])[1][0].text == caption.text
    assert np.array_equal(caption.heatmap(), wanted[0].heatmap())
    assert trunks == []


def test_views_of_several_images_share_forwards_and_mix_with_images(mini, trunks):
    images = [EXAMPLES / "snow.png", EXAMPLES / "sand.png"]
    masks = [EXAMPLES / "snow-labels.png", EXAMPLES / "sand-fox.png"]
    views = mini.encode_batch(images)
    assert trunks == [2]
    wanted = mini.caption_batch(images, masks)
    trunks.clear()
    found = mini.caption_batch([views[0], images[1]], masks)
    assert trunks == [1]
    for one, other in zip(found, wanted, strict=True):
        assert [region.text for region in one] == [region.text for region in other]
        for region, same in zip(one, other, strict=True):
            torch.testing.assert_close(region.embedding, same.embedding, atol=1e-3, rtol=1e-3)


def test_a_view_learns_what_it_lacks(encoder, tiny_clip, picture, trunks):
    """Another size, another embedder, another model: seen once each, and told apart."""
    view = encoder.encode(picture, size=32)
    wanted = encoder.embed(picture, MASK, size=16).embeddings
    trunks.clear()
    assert encoder.embed(view, MASK, size=16).embeddings.equal(wanted)
    encoder.embed(view, MASK, size=16, steps=3)
    encoder.embed(view, MASK, size=32, alpha=1.0, relevance="gradcam")
    assert trunks == [1]
    other = RegionEncoder(ClipViT(tiny_clip(seed=1)))
    found = other.embed(view, MASK, size=32).embeddings
    assert found.equal(other.embed(picture, MASK, size=32).embeddings)
    assert not found.equal(encoder.embed(view, MASK, size=32).embeddings)


def test_options_that_change_what_is_seen_are_told_apart(encoder, picture):
    view = encoder.encode(picture, embedder="clip_surgery", size=32)
    for blocks in (1, 2):
        named = {"embedder": "clip_surgery", "size": 32, "blocks": blocks}
        found = encoder.embed(view, MASK, **named).embeddings
        assert found.equal(encoder.embed(picture, MASK, **named).embeddings)


def test_a_view_does_not_hold_its_batch(encoder, picture):
    views = [ImageView(picture) for _ in range(4)]
    MaskInversion(encoder.backbone, size=32).encode(views)
    (alone,) = encoder.encode_batch([picture], size=32)
    sizes = [_bytes(view) for view in (*views, alone)]
    assert len(set(sizes)) == 1


def _bytes(view: ImageView) -> int:
    (encoded,) = view._seen.values()
    tensors = [part for part in vars(encoded).values() if isinstance(part, torch.Tensor)]
    return sum(tensor.untyped_storage().nbytes() for tensor in tensors)


def test_nothing_is_kept_of_what_fails(encoder, picture):
    view = ImageView(picture)
    with pytest.raises(InputError, match="steps"):
        encoder.encode(view, steps=-1)
    with pytest.raises(InputError, match="is empty"):
        encoder.embed(view, np.zeros((1, 40, 60), bool), size=32)
    assert not view._seen


def test_in_any_grad_mode(encoder, picture):
    wanted = encoder.embed(picture, MASK, size=32).embeddings
    with torch.inference_mode():
        view = encoder.encode(picture, size=32)
    with torch.enable_grad():
        found = encoder.embed(view, MASK, size=32).embeddings
    assert found.equal(wanted) and not found.requires_grad and not found.is_inference()
