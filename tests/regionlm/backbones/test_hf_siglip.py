"""SigLIP through transformers' door: against transformers itself and against open_clip's door."""

import json

import pytest
import torch

from regionlm import RegionEncoder
from regionlm.backbones import ClipViT, load_backbone
from regionlm.backbones.saving import save_backbone
from regionlm.embedders import MaskInversion
from regionlm.errors import ModelError
from regionlm.pretrained.bundle import write_backbone_bundle
from regionlm.relevance import make_relevance
from regionlm.relevance.legrad_autograd import legrad_autograd
from tests.regionlm.tiny_siglip import CONTEXT, WIDTH, as_open_clip, tiny_siglip, tokenizer

TEXTS = ["a cat", "a red dog and a cat", "dog " * 20]
NEAR = {"atol": 1e-5, "rtol": 1e-5}


def write(folder, siglip, **options):
    siglip.save_pretrained(folder, **options)
    tokenizer().save_pretrained(folder)
    return folder


def text_features(siglip, words):
    """As transformers embeds texts, with a tokenizer of its own."""
    words = words(
        TEXTS, padding="max_length", max_length=CONTEXT, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        return siglip.text_model(input_ids=words["input_ids"]).pooler_output


def test_embeds_images_and_texts_as_transformers(tmp_path):
    siglip = tiny_siglip()
    encoder = RegionEncoder.from_pretrained(write(tmp_path, siglip), device="cpu")
    backbone = encoder.backbone
    pixels = torch.randn(3, 3, 32, 32)
    with torch.no_grad():
        wanted = siglip.vision_model(pixels).pooler_output
    torch.testing.assert_close(backbone.embed_images(pixels), wanted, **NEAR)
    torch.testing.assert_close(backbone.encode(pixels).embeddings, wanted, **NEAR)
    torch.testing.assert_close(
        backbone.embed_texts(TEXTS), text_features(siglip, tokenizer()), **NEAR
    )
    assert (backbone.pooling, backbone.dim, backbone.default_size) == ("attention", WIDTH, (32, 32))
    assert backbone.mean == backbone.std == (0.5, 0.5, 0.5)
    assert backbone.logit_scale == pytest.approx(float(siglip.logit_scale.detach().exp()))


@pytest.mark.parametrize("size", [(32, 32), (24, 48)], ids=str)
def test_both_doors_give_the_same_vectors(tmp_path, size):
    siglip = tiny_siglip()
    ours = load_backbone(str(write(tmp_path, siglip)), device="cpu")
    theirs = ClipViT(as_open_clip(siglip), tokenizer=ours.tokenizer)
    pixels = torch.randn(2, 3, *size)
    torch.testing.assert_close(ours.embed_images(pixels), theirs.embed_images(pixels), **NEAR)
    torch.testing.assert_close(ours.embed_texts(TEXTS), theirs.embed_texts(TEXTS), **NEAR)
    assert ours.logit_scale == pytest.approx(theirs.logit_scale)
    ours.model.double(), theirs.model.double()
    masks = torch.rand(2, *size) > 0.5
    lets = [
        MaskInversion(one, size=size, steps=5, alpha=1.0)(pixels[0].double(), masks)
        for one in (ours, theirs)
    ]
    torch.testing.assert_close(lets[0].embeddings, lets[1].embeddings, atol=1e-8, rtol=1e-8)


def patches_of(pixels, side=8):
    """``[1, gh * gw, 3 * side ** 2]``: as Siglip2's image processor orders them."""
    found = pixels.unfold(2, side, side).unfold(3, side, side)  # [1, 3, gh, gw, side, side]
    return found.permute(0, 2, 3, 4, 5, 1).flatten(3).flatten(1, 2)


@pytest.mark.parametrize("size", [(32, 32), (24, 48), (16, 64)], ids=str)
def test_naflex_embeds_an_image_at_its_own_grid(tmp_path, size):
    siglip = tiny_siglip(naflex=True)
    backbone = load_backbone(str(write(tmp_path, siglip)), device="cpu")
    pixels, grid = torch.randn(1, 3, *size), (size[0] // 8, size[1] // 8)
    with torch.no_grad():
        wanted = siglip.get_image_features(
            pixel_values=patches_of(pixels),
            pixel_attention_mask=torch.ones(1, grid[0] * grid[1], dtype=torch.long),
            spatial_shapes=torch.tensor([grid]),
        )
    wanted = getattr(wanted, "pooler_output", wanted)  # transformers before 5.1
    torch.testing.assert_close(backbone.embed_images(pixels), wanted, **NEAR)
    # Which tokenizer transformers makes of a folder of Siglip2 depends on its release.
    texts = text_features(siglip, backbone.tokenizer.tokenizer)
    torch.testing.assert_close(backbone.embed_texts(TEXTS), texts, **NEAR)
    assert backbone.default_size == (32, 32)


@pytest.mark.parametrize("naflex", [False, True])
def test_maps_by_autograd(tmp_path, naflex):
    backbone = load_backbone(str(write(tmp_path, tiny_siglip(naflex))), device="cpu")
    backbone.model.double()
    pixels = torch.randn(1, 3, 24, 40, dtype=torch.float64)
    tokens = torch.nn.functional.normalize(torch.randn(2, WIDTH, dtype=torch.float64), dim=1)
    with torch.no_grad():
        inputs, grid = backbone.trunk(pixels)
    found = make_relevance("legrad", backbone, backbone.encode(pixels), masks=2).forward(tokens)
    wanted = legrad_autograd(backbone.head(), inputs[0], grid, tokens)
    torch.testing.assert_close(
        found / wanted.max(), wanted.detach() / wanted.max(), atol=1e-10, rtol=0
    )


@pytest.mark.parametrize("naflex", [False, True])
def test_nothing_of_the_model_is_changed_and_modes_do_not_matter(tmp_path, naflex):
    backbone = load_backbone(str(write(tmp_path, tiny_siglip(naflex))), device="cpu")
    model, pixels, masks = (
        backbone.model.train(),
        torch.randn(3, 24, 40),
        torch.rand(2, 24, 40) > 0.5,
    )
    before = {name: value.clone() for name, value in model.state_dict().items()}
    flags = [(one.requires_grad, one._version) for one in model.parameters()]
    inversion = MaskInversion(backbone, size=(24, 40), steps=3)
    found = inversion(pixels, masks).embeddings
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(inversion(pixels, masks).embeddings, found)
    assert torch.equal(inversion(pixels, masks[1:]).embeddings[0], found[1])
    assert flags == [(one.requires_grad, one._version) for one in model.parameters()]
    assert all(part.training for part in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())


def test_preprocessing_is_the_folders(tmp_path):
    write(tmp_path, tiny_siglip())
    settings = {"image_mean": [0.1, 0.2, 0.3], "image_std": [0.5, 0.6, 0.7]}
    (tmp_path / "processor_config.json").write_text(json.dumps({"image_processor": settings}))
    assert load_backbone(str(tmp_path), device="cpu").mean == (0.1, 0.2, 0.3)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps({"image_mean": [0.2] * 3}))
    backbone = load_backbone(str(tmp_path), device="cpu")
    assert (backbone.mean, backbone.std) == ((0.2,) * 3, (0.5,) * 3)


@pytest.mark.parametrize("naflex", [False, True])
def test_saved_it_is_the_same(tmp_path, naflex):
    backbone = load_backbone(str(write(tmp_path / "given", tiny_siglip(naflex))), device="cpu")
    backbone.mean = (0.1, 0.2, 0.3)
    save_backbone(backbone, tmp_path / "saved")
    again = load_backbone(str(tmp_path / "saved"), device="cpu")
    pixels = torch.randn(1, 3, 24, 32)
    assert torch.equal(backbone.embed_images(pixels), again.embed_images(pixels))
    assert torch.equal(backbone.embed_texts(TEXTS), again.embed_texts(TEXTS))
    assert (again.mean, again.std) == (backbone.mean, backbone.std)


def test_a_bundle_of_it_is_an_encoder(tmp_path):
    backbone = load_backbone(str(write(tmp_path / "given", tiny_siglip())), device="cpu")
    write_backbone_bundle(backbone, "small", tmp_path / "bundle")
    encoder = RegionEncoder.from_pretrained(tmp_path / "bundle", device="cpu")
    assert torch.equal(encoder.backbone.embed_texts(TEXTS), backbone.embed_texts(TEXTS))


def refused(message, folder):
    with pytest.raises(ModelError, match=message) as caught:
        load_backbone(str(folder), device="cpu")
    assert "\n" not in str(caught.value)


def test_incomplete_and_damaged_folders(tmp_path):
    folder = write(tmp_path, tiny_siglip())
    weights, words = folder / "model.safetensors", folder / "tokenizer.json"
    data, known = weights.read_bytes(), words.read_bytes()
    words.unlink()
    refused("lacks its tokenizer; copy tokenizer.json", folder)
    words.write_text("{")
    refused("its tokenizer can't be used", folder)
    words.write_bytes(known)
    weights.write_bytes(data[:-10])
    refused("can't be read", folder)
    weights.unlink()
    refused("can't be read", folder)
    weights.write_bytes(data)
    (folder / "preprocessor_config.json").write_text("[")
    refused("expected JSON with image_mean and image_std", folder)
    (folder / "preprocessor_config.json").unlink()
    config = json.loads((folder / "config.json").read_text())
    config["vision_config"]["num_hidden_layers"] = 3
    (folder / "config.json").write_text(json.dumps(config))
    refused("do not fit config.json: .*layers.2", folder)
    config["vision_config"] |= {"num_hidden_layers": 2, "intermediate_size": 80}
    (folder / "config.json").write_text(json.dumps(config))
    refused("do not fit config.json: vision_model.*fc1.* of another size .*; copy both", folder)
    config["vision_config"] |= {"intermediate_size": 70, "vision_use_head": False}
    (folder / "config.json").write_text(json.dumps(config))
    refused("expected SigLIP's attention pooling", folder)


def test_no_padding_token(tmp_path):
    folder = write(tmp_path, tiny_siglip())
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "special_tokens_map.json").unlink(missing_ok=True)
    refused("its tokenizer can't be used", folder)
