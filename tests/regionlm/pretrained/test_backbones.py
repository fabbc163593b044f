"""Backbones by any name: bundles and presets, open_clip's and transformers' models, the hub."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel

from regionlm import RegionCaptioner
from regionlm.backbones import load_backbone
from regionlm.backbones.published_weights import download_folder
from regionlm.encoder import RegionEncoder
from regionlm.errors import ModelError
from regionlm.pretrained.backbones import read_backbone
from regionlm.pretrained.bundle import MINI
from regionlm.pretrained.presets import PRESETS

PRESET, MODEL = next(iter(PRESETS.items()))
NAME = MODEL.backbone
TINY = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
}
COMMIT = "1" * 40


@pytest.fixture
def clip(monkeypatch, tmp_path):
    """A tiny model that open_clip takes for the preset's; no files of this machine are in reach."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REGIONLM_MODELS", str(tmp_path / "models"))
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, NAME, TINY)
    torch.manual_seed(0)
    return open_clip.CLIP(**json.loads(json.dumps(TINY)))


def put(clip, *names: str) -> Path:
    """Write weights to files of the models' folder; the last of them."""
    for name in names:
        path = Path(str(Path.home() / "models"), name)
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(clip.state_dict(), path)
    return path


def read(source, *, offline=True):
    return read_backbone(source, device="cpu", offline=offline)


def is_same(backbone, clip) -> bool:
    return torch.equal(backbone.model.visual.proj, clip.visual.proj)


def refused(message, source, *, offline=True):
    with pytest.raises(ModelError, match=message) as caught:
        read(source, offline=offline)
    assert "\n" not in str(caught.value)


def test_a_bundles_backbone_needs_nothing_else_of_it(tmp_path):
    mini = read("mini")
    assert mini.name == load_name(MINI) and mini.inversion_defaults
    shutil.copytree(MINI, tmp_path / "bundle")
    shutil.rmtree(tmp_path / "bundle" / "prefix_model")
    again = read(tmp_path / "bundle")
    assert torch.equal(mini.embed_texts(["a dog"]), again.embed_texts(["a dog"]))
    assert again.inversion_defaults == mini.inversion_defaults
    shutil.rmtree(tmp_path / "bundle" / "backbone")
    refused("bundle is incomplete", tmp_path / "bundle")


def test_an_encoder_needs_no_more():
    encoder = RegionEncoder.from_pretrained("mini", device="cpu", offline=True)
    wanted = read("mini")
    assert encoder.name == wanted.name
    assert torch.equal(encoder.backbone.embed_texts(["a"]), wanted.embed_texts(["a"]))


def load_name(folder: Path) -> str:
    return json.loads((folder / "config.json").read_text())["backbone"]["name"]


def test_a_presets_backbone_needs_nothing_else_of_it(clip):
    put(clip, f"{PRESET}/ViT-B-32.pt")
    backbone = read(PRESET)
    assert is_same(backbone, clip) and backbone.name == f"{NAME}/{MODEL.pretrained}"


def test_a_name_with_its_tag(clip, tmp_path):
    published = open_clip.get_pretrained_cfg(NAME, "openai")
    repository = published["hf_hub"].rstrip("/")
    cached = tmp_path / "hub" / f"models--{repository.replace('/', '--')}"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs" / "main").write_text(COMMIT)
    (cached / "snapshots" / COMMIT).mkdir(parents=True)
    weights = cached / "snapshots" / COMMIT / "open_clip_model.safetensors"
    save_file(clip.state_dict(), weights)
    backbone = read(f"{NAME}/openai")
    assert is_same(backbone, clip) and backbone.name == f"{NAME}/openai"
    assert backbone.head().block.activation.kind == "quick_gelu"
    refused("'nonsense' is neither a file nor one of its tags", f"{NAME}/nonsense")
    refused(
        f"names no weights; give {NAME}/TAG with one of openai.*, or put a file of weights into",
        NAME,
    )


def test_a_name_whose_weights_lie_in_the_models_folder(clip):
    put(clip, f"{NAME}/mine.pt")
    assert is_same(read(NAME), clip)
    put(clip, f"{NAME}/other.pt")
    refused("expected one file of weights for .*, found 2", NAME)


def test_an_open_clip_folder(clip, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
    assert is_same(read(folder), clip) and is_same(read(f"{folder}"), clip)


def tiny_transformers_clip() -> CLIPModel:
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1,
             "num_attention_heads": 2}  # fmt: skip
    vision = {**sizes, "image_size": 32, "patch_size": 8}
    return CLIPModel(CLIPConfig(text_config=sizes, vision_config=vision, projection_dim=8))


def test_a_transformers_clip_folder(tmp_path):
    model = tiny_transformers_clip()
    model.save_pretrained(tmp_path)
    backbone = read(tmp_path)
    torch.testing.assert_close(backbone.model.visual.proj, model.visual_projection.weight.T)
    assert backbone.embed_texts(["a dog"]).shape == (1, 8)


def test_what_is_no_backbone(tmp_path):
    refused("unknown model 'nothing': expected mini, .* an open_clip name such as", "nothing")
    refused("there is no folder", "./nowhere")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llava"}))
    refused("is a LLaVA, .*no space to match or embed in", tmp_path)
    (tmp_path / "config.json").unlink()
    refused("expected open_clip_config.json in it, or config.json of transformers", tmp_path)


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("ViT-B-16-SIGLIP/webli", "ViT-B-16-SigLIP/webli"),
        ("vit-b-32/OpenAI", "ViT-B-32/openai"),
        ("vit-b-32", "ViT-B-32"),
        ("Mini", "mini"),
        (PRESET.upper(), PRESET),
    ],
)
def test_a_name_in_other_capitals_is_not_sought_on_the_hub(name, meant, monkeypatch):
    monkeypatch.setattr("huggingface_hub.hf_hub_download", None)
    wanted = f"^unknown model {name!r}: did you mean {meant}\\?$"
    for load in (RegionEncoder, RegionCaptioner):
        with pytest.raises(ModelError, match=wanted):
            load.from_pretrained(name)


def test_names_without_a_tag_get_advice_that_helps(tmp_path, monkeypatch):
    monkeypatch.setenv("REGIONLM_MODELS", str(tmp_path))
    refused("expected a plain ViT of timm, found ConvNeXt", "convnext_base")
    refused("coca_base: has no published weights; put a file of weights into", "coca_base")


# --- the hub


def test_one_format_of_the_weights_is_downloaded(clip, hub_of, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    save_file(clip.state_dict(), folder / "open_clip_model.safetensors")
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": TINY}))
    for name in ("open_clip_pytorch_model.bin", "pytorch_model.bin", "tf_model.h5"):
        (folder / name).write_bytes(b"the same again")
    served = hub_of(folder)
    assert is_same(load_backbone("hf-hub:me/mine", device="cpu"), clip)
    assert served.fetched == {"open_clip_model.safetensors", "open_clip_config.json"}
    assert is_same(read("me/mine"), clip) and is_same(read("hf-hub:me/mine"), clip)  # offline


def test_other_models_are_refused_before_their_weights_are_downloaded(hub_of, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "qwen2_vl"}))
    (folder / "model.safetensors").write_bytes(b"gigabytes")
    served = hub_of(folder)
    refused("me/mine: is Qwen2-VL", "me/mine", offline=False)
    assert served.fetched == {"config.json"}


def test_sharded_weights_of_the_hub_in_one_format_only(hub_of, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    kept = {"config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
            "model.safetensors.index.json"}  # fmt: skip
    for name in (*kept, "pytorch_model-00001-of-00001.bin", "flax_model.msgpack"):
        (folder / name).write_bytes(b"{}")
    served = hub_of(folder)
    assert {path.name for path in download_folder("me/mine", offline=False).iterdir()} == kept
    assert served.fetched == kept


def test_nothing_is_asked_of_the_hub_offline(tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the network"))
    refused("no model 'me/mine' in the local hub cache", "me/mine")
    refused("no model 'me/mine' in the local hub cache", "hf-hub:me/mine")
