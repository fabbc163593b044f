"""What every embedder promises."""

import subprocess
import sys
from dataclasses import FrozenInstanceError, fields
from typing import get_args

import numpy as np
import pytest
import torch
from PIL import Image

from regionlm.backbones import ClipViT
from regionlm.cli.options import Embedding
from regionlm.embedders import (
    EMBEDDERS,
    Embedder,
    Localized,
    MaskInversion,
    RegionEmbeddings,
    alphaclip,
    make_embedder,
    pictures,
    ris,
)
from regionlm.embedders import embedder as interface
from regionlm.embedders.options import (
    EMBEDDER_OPTIONS,
    MaskInversionOptions,
    RelevanceName,
    Score,
    check_embedder,
)
from regionlm.errors import InputError, ModelError
from regionlm.relevance import RELEVANCE
from regionlm.relevance import ScoreName as WantedScore
from tests.regionlm.tiny_timm import EVA02, tiny_timm

PAINTERS = {"crop", "masked_crop", "red_circle", "fgvp", "ris"}  # they need the picture itself
TAKE_PIXELS = [name for name in EMBEDDERS if name not in PAINTERS]
KEEP_A_FULL_MASK = ["cls", "crop", "masked_crop", "fgvp", "ris", "alphaclip"]


def assert_same(found, wanted, atol=1e-5):
    for one in ("embeddings", "image_embedding"):
        torch.testing.assert_close(getattr(found, one), getattr(wanted, one), atol=atol, rtol=1e-4)


@pytest.mark.parametrize("name", EMBEDDERS)
@pytest.mark.parametrize("kind", ["tok", "avg", "rotary"])
@pytest.mark.parametrize("size", [None, (24, 40)], ids=str)
def test_one_interface(make, tiny_clip, picture, masks, name, kind, size):
    if kind == "rotary" and name == "alphaclip":
        pytest.skip("published for OpenAI's models only")
    rotary = {"name": "regionlm_tiny_eva", **EVA02}
    model = tiny_timm(**rotary) if kind == "rotary" else tiny_clip(kind)
    backbone = ClipViT(model, inversion_defaults={"size": 32, "steps": 2})
    embedder = make(name, backbone, size=size)
    assert isinstance(embedder, Embedder) and embedder.size == (size or (32, 32))
    found = embedder(picture, masks)
    assert isinstance(found, Localized if name == "maskinversion" else RegionEmbeddings)
    assert found.embeddings.shape == (4, 24) and found.embeddings.dtype == torch.float32
    whole = backbone.embed_images(backbone.preprocess(picture, size or 32)[None])[0]
    if name != "alphaclip":  # whose image embedding saw a mask of ones
        torch.testing.assert_close(found.image_embedding, whole, atol=1e-5, rtol=1e-4)
    norms = found.rescaled().norm(dim=1)
    torch.testing.assert_close(norms, found.image_embedding.norm().expand(4))
    wanted = torch.nn.functional.cosine_similarity(found.embeddings, found.image_embedding[None])
    torch.testing.assert_close(found.cosine_to_image, wanted)
    distinct = torch.pdist(found.embeddings)
    assert (distinct == 0).all() if name == "cls" else (distinct > 1e-4).all()


@pytest.mark.parametrize("name", EMBEDDERS)
def test_batches_and_chunks_change_nothing(make, tiny_clip, picture, masks, name, monkeypatch):
    options = {"steps": 2} if name == "maskinversion" else {}
    embedder = make(name, ClipViT(tiny_clip()), size=32, **options)
    other = Image.fromarray(np.random.default_rng(2).integers(0, 256, (16, 50, 3), np.uint8))
    thin = np.zeros((2, 16, 50), bool)
    thin[0, 3], thin[1, :, 7:30] = True, True
    images, sets = [picture, other, picture.convert("L")], [masks, thin, torch.as_tensor(masks[:1])]
    together = embedder.localize_batch(images, sets)
    for module in (interface, pictures, ris, alphaclip):
        monkeypatch.setattr(module, "AT_ONCE", 2)
    for some in (together, embedder.localize_batch(images, sets)):
        for found, image, mask in zip(some, images, sets, strict=True):
            assert_same(found, embedder(image, mask))
    assert embedder.localize_batch([], []) == []
    with pytest.raises(InputError, match="3 images and 2 sets"):
        embedder.localize_batch(images, sets[:2])
    alone = torch.cat([embedder(picture, masks[i : i + 1]).embeddings for i in range(4)])
    atol = 2e-3 if name == "maskinversion" else 1e-5  # AdamW's eps
    torch.testing.assert_close(alone, together[0].embeddings, atol=atol, rtol=1e-3)


@pytest.mark.parametrize("name", EMBEDDERS)
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.inference_mode])
def test_any_grad_mode_and_nothing_of_the_model_changes(
    make, tiny_clip, picture, masks, name, mode
):
    model = tiny_clip(patch_dropout=0.5)
    model.train()
    before = [(p.detach().clone(), p._version, p.requires_grad) for p in model.parameters()]
    keys = [sorted(vars(m)) for m in model.modules()]
    embedder = make(name, ClipViT(model, inversion_defaults={"size": 32, "steps": 2}))
    wanted = embedder(picture, masks)
    with mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = embedder(picture, torch.as_tensor(masks).clone())
    assert_same(found, wanted, atol=0)
    assert not found.embeddings.is_inference() and not found.embeddings.requires_grad
    (found.embeddings.clone().requires_grad_() * 2).sum().backward()
    for p, (value, version, flag) in zip(model.parameters(), before, strict=True):
        assert torch.equal(p, value) and (p._version, p.requires_grad) == (version, flag)
        assert p.grad is None
    assert model.training and keys == [sorted(vars(m)) for m in model.modules()]


@pytest.mark.parametrize("name", KEEP_A_FULL_MASK)
@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_a_mask_of_everything_is_the_image(make, tiny_clip, picture, name, pool):
    found = make(name, ClipViT(tiny_clip(pool)))(picture, np.ones((1, 30, 40), bool))
    torch.testing.assert_close(found.embeddings[0], found.image_embedding, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", TAKE_PIXELS)
def test_preprocessed_pixels_are_welcome(make, tiny_clip, picture, masks, name):
    backbone = ClipViT(tiny_clip(), inversion_defaults={"size": 32, "steps": 2})
    embedder = make(name, backbone)
    assert_same(embedder(backbone.preprocess(picture), masks), embedder(picture, masks))
    embedder(torch.randn(3, 16, 48), masks)  # another size than the embedder's


@pytest.mark.parametrize("name", sorted(PAINTERS))
def test_painters_need_the_picture(make, tiny_clip, masks, name):
    with pytest.raises(InputError, match="PIL image"):
        make(name, ClipViT(tiny_clip()))(torch.randn(3, 32, 32), masks)


@pytest.mark.parametrize("name", EMBEDDERS)
def test_bad_images_masks_and_weights_are_named(make, tiny_clip, picture, masks, name):
    model = tiny_clip()
    embedder = make(name, ClipViT(model))
    for image in (np.zeros((30, 40, 3)), torch.randn(1, 3, 32, 32), None):
        with pytest.raises(InputError, match="image"):
            embedder(image, masks)
    for bad, message in ((masks * False, "mask 0 of 4"), (masks[:, :20], "30 x 40")):
        with pytest.raises(InputError, match=message):
            embedder(picture, bad)
    embedder.backbone.model.visual.conv1.weight.data[0] = torch.nan
    with pytest.raises(ModelError, match=r"visual\.conv1\.weight holds NaN"):
        embedder(picture, masks)


def test_names_are_those_of_the_command_line():
    offered = {one.name for one in fields(Embedding)} - {"embedder"}
    assert offered == {one.name for kind in EMBEDDER_OPTIONS.values() for one in fields(kind)}
    assert list(EMBEDDER_OPTIONS) == list(EMBEDDERS)
    assert get_args(RelevanceName) == RELEVANCE and Score == WantedScore


@pytest.mark.parametrize("name", EMBEDDERS)
def test_every_embedder_keeps_the_options_it_was_given(make, tiny_clip, name):
    kind = EMBEDDER_OPTIONS[name]
    embedder = make(name, ClipViT(tiny_clip()), size=64)
    assert type(embedder.options) is kind is type(embedder).options_type
    assert embedder.size == (64, 64) and embedder.options.size == 64
    told = "".join(one.__doc__ or "" for one in kind.__mro__)
    assert all(f"{field.name}:" in told for field in fields(kind))
    with pytest.raises(FrozenInstanceError):
        embedder.options.size = 32


def test_options_of_a_class_are_its_keywords(tiny_clip):
    with pytest.raises(TypeError, match=r"MaskInversionOptions.*'stesp'"):
        MaskInversion(ClipViT(tiny_clip()), stesp=3)
    with pytest.raises(TypeError):
        MaskInversionOptions(3)


def test_what_is_none_is_taken_from_defaults_and_nothing_else():
    chosen = MaskInversionOptions(lr=0.2, alpha=0).or_else({"lr": 0.7, "steps": 3, "other": 1})
    assert chosen == MaskInversionOptions(lr=0.2, alpha=0.0, steps=3)
    with pytest.raises(InputError, match="steps: expected an integer from 0 to 100000, found -3"):
        MaskInversionOptions().or_else({"steps": -3})


def test_options_are_checked_without_torch():
    code = (
        "import sys\n"
        "from regionlm.datasets.dataset_options import check_request\n"
        "from regionlm.embedders.options import check_embedder\n"
        "from training.data.source_options import read_source_options\n"
        "check_embedder('ris', {'v': 0.5})\n"
        "check_request('mini', None, {'style': 'seen'})\n"
        "read_source_options('manifest', {'path': 'a.jsonl'})\n"
        "print({'torch', 'numpy', 'PIL', 'transformers', 'lightning'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr


def test_unknown_names_and_options_list_what_there_is(tiny_clip):
    backbone = ClipViT(tiny_clip())
    with pytest.raises(InputError, match=r"maskinversion, cls, .*alphaclip; found 'blip'"):
        make_embedder("blip", backbone)
    with pytest.raises(InputError, match=r"steps: not an option of the embedder crop.*has size"):
        make_embedder("crop", backbone, steps=3)


@pytest.mark.parametrize(
    "name, options",
    [
        ("cls", {"size": 33}), ("crop", {"size": 0}), ("masked_crop", {"extent": "mask"}),
        ("red_circle", {"thickness": 0}), ("red_circle", {"thickness": "fat"}),
        ("fgvp", {"blur": -1}), ("fgvp", {"blur": float("nan")}), ("ris", {"v": 1.1}),
        ("ris", {"v": "most"}), ("ris", {"v": True}), ("ris", {"v": float("nan")}),
        ("ris", {"masked_blocks": 0}), ("ris", {"masked_blocks": 1.5}),
        ("clip_surgery", {"blocks": 0}), ("clip_surgery", {"blocks": "all"}),
        ("red_circle", {"thickness": None}), ("masked_crop", {"extent": None}),
        ("maskclip", {"value_only": "yes"}), ("maskclip", {"value_only": 1}),
        ("alphaclip", {"checkpoint": 3}), ("alphaclip", {"quick_gelu": None}),
    ],
    ids=str,
)  # fmt: skip
def test_bad_options_are_named(tiny_clip, name, options):
    with pytest.raises(InputError, match=next(iter(options))) as caught:
        make_embedder(name, ClipViT(tiny_clip()), **options)
    assert "\n" not in str(caught.value)
    if "size" not in options:  # which needs the patch to be judged
        with pytest.raises(InputError, match=next(iter(options))):
            check_embedder(name, options)


def test_size_defaults_to_the_backbones_then_the_models(tiny_clip):
    model = tiny_clip(image_size=(24, 40))
    assert make_embedder("crop", ClipViT(model)).size == (24, 40)
    told = ClipViT(model, inversion_defaults={"size": [64, 32]})
    assert make_embedder("crop", told).size == (64, 32)
    assert make_embedder("crop", told, size=16).size == (16, 16)
