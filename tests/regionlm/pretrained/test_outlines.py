"""What a configuration alone tells of a backbone, and what is refused for it before loading."""

import json

import pytest
import torch
from transformers import CLIPConfig, CLIPModel

from regionlm import InputError, ModelError, load_backbone
from regionlm.backbones.open_clip_insides import build_model
from regionlm.cli.main import main
from regionlm.embedders import EMBEDDERS, make_embedder
from regionlm.embedders.embedder_registry import check_fit
from regionlm.pretrained.backbones import read_backbone
from regionlm.pretrained.bundle import SHIPPED
from regionlm.pretrained.outlines import outline_backbone
from tests.regionlm.backbones.tiny_open_clip import CONFIG, NAMED_CONFIG
from tests.regionlm.tiny_siglip import tiny_siglip

FEATURES = ("name", "dim", "patch_size", "default_size", "pooling", "inversion_defaults")


@pytest.fixture
def folders(tmp_path):
    """Folders of the three forms, their weights left out."""
    for name in ("open_clip", "clip", "siglip"):
        (tmp_path / name).mkdir()
    (tmp_path / "open_clip/open_clip_config.json").write_text(json.dumps({"model_cfg": CONFIG}))
    vision = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
    towers = {"text_config": dict(vision), "vision_config": {**vision, "image_size": 32}}
    CLIPModel(CLIPConfig(**towers, projection_dim=16)).config.save_pretrained(tmp_path / "clip")
    tiny_siglip().config.save_pretrained(tmp_path / "siglip")
    return tmp_path


@pytest.mark.parametrize("name", SHIPPED)
def test_it_has_the_features_of_the_loaded(name):
    found, loaded = outline_backbone(name), read_backbone(name, device="cpu", offline=True)
    assert [getattr(found, one) for one in FEATURES] == [getattr(loaded, one) for one in FEATURES]
    assert all(weight.is_meta for weight in found.model.parameters())


def test_no_weights_are_needed(folders):
    found = {name: outline_backbone(folders / name) for name in ("open_clip", "clip", "siglip")}
    assert {name: one.pooling for name, one in found.items()} == {
        "open_clip": "mean", "clip": "cls", "siglip": "attention",
    }  # fmt: skip
    assert outline_backbone("ViT-B-16-SigLIP/webli").default_size == (224, 224)
    assert outline_backbone("clipcap-coco").patch_size == (32, 32)


def test_what_has_no_configuration_here(tmp_path):
    (tmp_path / "config.json").write_text("{")
    for source in (tmp_path, tmp_path / "none", "nobody/nothing", "RN50/openai", "nothing"):
        assert outline_backbone(source) is None


def _refusal(check):
    try:
        check()
    except (InputError, ModelError) as error:
        return str(error)
    return None


@pytest.mark.parametrize("pool", ["cls", "mean", "attention"])
@pytest.mark.parametrize("name", EMBEDDERS)
def test_an_outline_is_refused_as_the_model_is(name, pool, write_alphaclip, tmp_path):
    kind = {"attention": {"attentional_pool": True, "attn_pooler_queries": 1},
            "mean": {"pool_type": "avg", "final_ln_after_pool": True}, "cls": {}}[pool]  # fmt: skip
    plain = ("image_size", "patch_size", "width", "layers", "head_width")
    vision = {key: CONFIG["vision_cfg"][key] for key in plain} | kind
    config = {**NAMED_CONFIG, "vision_cfg": vision}
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
    model = build_model(config, "tiny")
    torch.save(model.state_dict(), tmp_path / "open_clip_pytorch_model.bin")
    outline = outline_backbone(tmp_path)
    loaded = load_backbone(str(tmp_path), device="cpu")
    own = {"checkpoint": write_alphaclip(model)} if name == "alphaclip" else {}
    several = [{}, {"size": 12}, {"size": 48}]
    if name == "maskinversion":
        several += [{"speed": "fast"}, {"score": "published"}, {"relevance": "gradcam"}]
    for options in several:
        wanted = _refusal(lambda: make_embedder(name, loaded, **own, **options))  # noqa: B023
        assert _refusal(lambda: check_fit(name, outline, **own, **options)) == wanted  # noqa: B023


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "12"], "--size: expected multiples of the patch"),
        (["--embedder", "sclip"], "sclip"),
        (["--embedder", "clip_surgery"], "clip_surgery"),
        (["--speed", "fast"], "--speed: expected exact with mini_siglip, found fast"),
    ],
)
def test_the_command_refuses_before_weights_are_read(
    options, message, image, tmp_path, monkeypatch, capsys
):
    def refuse(*args, **options):
        raise AssertionError("weights are read")

    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    query = [str(image), "--box", "0,0,9,9", "--model", "mini-siglip"]
    for command in (
        ["match", "--text", "a fox"],
        ["embed", "--output", str(tmp_path / "e.safetensors")],
    ):
        assert main([command[0], *query, *command[1:], *options]) == 2
        assert message in capsys.readouterr().err
    if "--embedder" not in options:
        assert main(["explain", *query, *options]) == 2
        assert message in capsys.readouterr().err
