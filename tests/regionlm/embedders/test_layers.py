"""MaskInversion on the summed maps of several layers."""

import pytest

from regionlm import ClipViT, ImageView, InputError, MaskInversion


def test_layers(tiny_clip, picture, masks):
    """The maps of more layers lead elsewhere; a view of one number does not serve another."""
    backbone = ClipViT(tiny_clip(layers=3))
    view = ImageView(picture)
    found = {}
    for layers in (1, 2, 1, 99):
        embedder = MaskInversion(backbone, size=32, layers=layers)
        one = embedder(view, masks)
        assert one.embeddings.equal(embedder(picture, masks).embeddings)
        assert (
            one.dice.mean()
            > MaskInversion(backbone, size=32, layers=layers, steps=0)(view, masks).dice.mean()
        )
        found[layers] = one.embeddings
    assert not found[1].equal(found[2]) and not found[2].equal(found[99])


@pytest.mark.parametrize(
    ("options", "message"),
    [({"layers": 0}, "layers"), ({"layers": 2, "relevance": "chefer"}, "layers: expected 1")],
)
def test_bad_layers(tiny_clip, options, message):
    with pytest.raises(InputError, match=message):
        MaskInversion(ClipViT(tiny_clip()), **options)


def test_images_encoded_for_other_layers_are_refused(tiny_clip, picture, masks):
    backbone = ClipViT(tiny_clip(layers=3))
    pixels = backbone.preprocess(picture, 32)[None]
    all_layers = MaskInversion(backbone, size=32, layers=99)
    (found,) = all_layers.invert(backbone.encode(pixels, layers=99), [masks])
    assert found.embeddings.equal(all_layers(picture, masks).embeddings)
    for layers, encoded in ((2, 1), (1, 2), (2, 3), (99, 2)):
        with pytest.raises(InputError, match=f"encoded for {layers} layers, found {encoded}"):
            MaskInversion(backbone, size=32, layers=layers).invert(
                backbone.encode(pixels, layers=encoded), [masks]
            )
