"""The trunk in half precision and compiled: near the usual, and refused where it is no use."""

from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel

from regionlm import ClipViT, ImageView, InputError, make_embedder
from regionlm.backbones import trunk_run
from regionlm.backbones.clip_vit import OPENAI_MEAN, OPENAI_STD
from regionlm.backbones.hf_clip_vit import HfClipViT
from regionlm.backbones.hf_siglip import SiglipAsClip
from regionlm.embedders import EMBEDDERS
from tests.regionlm.tiny_siglip import tiny_siglip
from tests.regionlm.tiny_timm import EVA02, VITAMIN, tiny_timm

KINDS = {
    "plain": lambda: tiny_timm(),
    "eva02": lambda: tiny_timm(name="regionlm_tiny_eva", **EVA02),
    "vitamin": lambda: tiny_timm(**VITAMIN),
    "siglip": lambda: SiglipAsClip(tiny_siglip()),
}
EXAMPLE = Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8))
PIXELS = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def by_eager(monkeypatch):
    """torch.compile without code generation, which takes a compiler and much longer."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="eager"))
    trunk_run._compiled.cache_clear()
    yield
    trunk_run._compiled.cache_clear()


def closeness(found, wanted):
    return torch.nn.functional.cosine_similarity(found, wanted, dim=-1).min()


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_is_near_and_leaves_the_model_alone(kind):
    backbone = ClipViT(KINDS[kind]())
    usual = backbone.encode(PIXELS)
    before = {name: value.clone() for name, value in backbone.model.state_dict().items()}
    half = backbone.set_trunk(precision="bfloat16").encode(PIXELS)
    assert half.embeddings.dtype == half.residual.dtype == torch.float32
    assert not half.embeddings.equal(usual.embeddings)
    assert closeness(half.block_input, usual.block_input) > 0.99
    assert all(value.equal(before[name]) for name, value in backbone.model.state_dict().items())
    back = backbone.set_trunk().encode(PIXELS)
    assert back.embeddings.equal(usual.embeddings)


@pytest.mark.parametrize("kind", KINDS)
def test_compiled_is_the_same(kind, by_eager):
    backbone = ClipViT(KINDS[kind]())
    wanted = backbone.embed_images(PIXELS)
    backbone.set_trunk(compile=True)
    for pixels, expected in ((PIXELS, wanted), (PIXELS[:1], wanted[:1])):
        torch.testing.assert_close(backbone.embed_images(pixels), expected)
    both = backbone.set_trunk(compile=True, precision="bfloat16").embed_images(PIXELS)
    assert closeness(both, wanted) > 0.98


def test_new_weights_are_not_compiled_again(by_eager, tiny_clip):
    backbone = ClipViT(tiny_clip())
    backbone.set_trunk(compile=True).embed_images(PIXELS)
    with torch.no_grad():
        backbone.model.visual.conv1.weight.mul_(-1)
        for parameter in backbone.model.visual.transformer.parameters():
            parameter.mul_(0.5)
    found = backbone.embed_images(PIXELS)
    torch.testing.assert_close(found, backbone.set_trunk().embed_images(PIXELS))


@pytest.mark.parametrize("name", EMBEDDERS)
def test_every_embedder_uses_it_and_says_so(name, tiny_clip, write_alphaclip):
    model = tiny_clip()
    options = {"clip_surgery": {"blocks": 1}}.get(name, {})
    if name == "alphaclip":
        options = {"checkpoint": write_alphaclip(model)}
    masks = torch.zeros(1, 32, 48, dtype=torch.bool)
    masks[0, 8:24, 8:24] = True
    found = {}
    view = ImageView(EXAMPLE)
    for precision in ("float32", "bfloat16"):
        backbone = ClipViT(model).set_trunk(precision=precision)
        embedder = make_embedder(name, backbone, **options)
        found[precision] = embedder(view, masks).embeddings
        said = {} if precision == "float32" else {"precision": precision}
        assert embedder.record == said
    assert not found["float32"].equal(found["bfloat16"])
    assert closeness(*found.values()) > 0.9


def test_a_view_is_encoded_again(tiny_clip):
    backbone, view = ClipViT(tiny_clip()), ImageView(EXAMPLE)
    masks = torch.ones(1, 32, 48, dtype=torch.bool)
    embedder = make_embedder("cls", backbone)
    usual = embedder(view, masks).embeddings
    backbone.set_trunk(precision="bfloat16")
    assert not embedder(view, masks).embeddings.equal(usual)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float16"}, "precision: expected float32 or bfloat16 on a CPU, found float"),
        ({"precision": "int8"}, "precision: expected one of float32, bfloat16, float16; found 'i"),
        ({"compile": 1}, "compile: expected true or false, found 1"),
        ({"size": 1}, "size: not an option of the trunk, which has precision, compile"),
    ],
)
def test_refused(options, message, tiny_clip):
    backbone = ClipViT(tiny_clip())
    with pytest.raises(InputError, match=message):
        backbone.set_trunk(**options)
    assert backbone.trunk_options.record == {}


def test_half_models_have_no_half_trunk(tiny_clip):
    with pytest.raises(InputError, match="precision: the model computes in bfloat16 already"):
        ClipViT(tiny_clip().bfloat16()).set_trunk(precision="bfloat16")


def test_without_a_compiler(tiny_clip, monkeypatch):
    def broken(*_, **__):
        raise RuntimeError("no C++ compiler\nsee the manual")

    monkeypatch.setattr(torch, "compile", lambda *_, **__: broken)
    with pytest.raises(InputError, match=r"compile: .* leave it out: no C.. compiler$"):
        ClipViT(tiny_clip()).set_trunk(compile=True)


def test_a_llava_has_a_trunk_of_its_own():
    config = CLIPVisionConfig(hidden_size=32, intermediate_size=64, num_hidden_layers=2,
                              num_attention_heads=4, image_size=32, patch_size=8)  # fmt: skip
    backbone = HfClipViT(CLIPVisionModel(config).eval(), mean=OPENAI_MEAN, std=OPENAI_STD)
    with pytest.raises(InputError, match=r"compile: .* has a trunk of its own library"):
        backbone.set_trunk(compile=True)
