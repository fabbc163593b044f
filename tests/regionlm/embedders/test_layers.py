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
