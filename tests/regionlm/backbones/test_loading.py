"""Backbones by name, by tag, from checkpoint files and folders: what loads and what is refused."""

import json

import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from regionlm.backbones import ClipViT, load_backbone
from regionlm.backbones.saving import save_backbone
from regionlm.backbones.text_tokenizers import FileTokenizer
from regionlm.errors import ModelError, ModelWarning
from tests.regionlm.backbones.tiny_open_clip import (
    CONFIG,
    NAMED_CONFIG,
    WORDS,
    activation_of,
    refused,
)
from tests.regionlm.tiny_timm import TEXT, timm_config, tiny_timm


def word_tokenizer():
    tokenizer = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "[unk]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[start] $A [end]", special_tokens=[("[start]", 5), ("[end]", 6)]
    )
    return tokenizer


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "tiny"
    path.mkdir()
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG)
    save_file(model.state_dict(), path / "open_clip_model.safetensors")
    preprocess = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25]}
    config = {"model_cfg": CONFIG, "preprocess_cfg": preprocess}
    (path / "open_clip_config.json").write_text(json.dumps(config))
    word_tokenizer().save(str(path / "tokenizer.json"))
    return path


def write_torchscript(path, state):
    """As PyTorch wrote it; its writer is deprecated, and called here in nobody's name."""

    class Archive(torch.nn.Module):
        def forward(self, x):
            return x

    module = Archive()
    for key, value in state.items():
        owner, (*parts, leaf) = module, key.split(".")
        for part in parts:
            owner.add_module(part, getattr(owner, part, None) or Archive())
            owner = getattr(owner, part)
        owner.register_buffer(leaf, value)
    write = "torch.jit.trace(module, torch.zeros(1)).save(path)"
    exec(write, {"__name__": "somebody", "torch": torch, "module": module, "path": str(path)})


def test_a_folder_brings_everything(folder):
    backbone = load_backbone(str(folder), device="cpu", offline=True)
    model = open_clip.create_model(f"local-dir:{folder}").eval()
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = model.encode_image(pixels)
        words = model.encode_text(torch.tensor([[5, 2, 3, 6, 0, 0]]))
    torch.testing.assert_close(backbone.embed_images(pixels), wanted, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(backbone.embed_texts(["a dog"]), words, atol=1e-5, rtol=1e-5)
    assert (backbone.mean, backbone.std) == ((0.5,) * 3, (0.25,) * 3)
    assert backbone.pooling == "mean" and not backbone.model.training


def test_loading_keeps_the_random_state(folder):
    torch.manual_seed(7)
    wanted = torch.rand(3)
    torch.manual_seed(7)
    load_backbone(str(folder), device="cpu")
    torch.testing.assert_close(torch.rand(3), wanted)


def test_tokenizer_of_a_file(tmp_path):
    word_tokenizer().save(str(tmp_path / "t.json"))
    tokenizer = FileTokenizer(tmp_path / "t.json", context=5, vocabulary=7)
    ids = tokenizer(["dog", "a cat a cat a cat"])
    assert ids.tolist() == [[5, 3, 6, 0, 0], [5, 2, 4, 2, 6]]  # cut texts keep their end
    assert tokenizer.unknown_words("a zebra, dog") == ["zebra", ","]
    assert tokenizer.unknown_words("a dog") == tokenizer.unknown_words("") == []
    with pytest.raises(ModelError, match="7 tokens but the text tower only 6"):
        FileTokenizer(tmp_path / "t.json", context=5, vocabulary=6)
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ModelError, match="can't be read"):
        FileTokenizer(tmp_path / "bad.json", context=5, vocabulary=7)


def test_a_byte_level_tokenizer_knows_every_word(tmp_path):
    """As CLIP's own is published: its end token is said to be the unknown one, too."""
    end = "<|endoftext|>"
    vocabulary = {symbol: i for i, symbol in enumerate([*pre_tokenizers.ByteLevel.alphabet(), end])}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[], unk_token=end))
    tokenizer.add_special_tokens([end])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{end} $A {end}", special_tokens=[(end, len(vocabulary) - 1)]
    )
    tokenizer.save(str(tmp_path / "t.json"))
    read = FileTokenizer(tmp_path / "t.json", context=40, vocabulary=len(vocabulary))
    assert read.unknown_words("xyzzy \u96ea \U0001f600") == []


def test_incomplete_folders(folder):
    weights, tokenizer = folder / "open_clip_model.safetensors", folder / "tokenizer.json"
    refused("has its own weights", str(folder), pretrained="openai")
    text = tokenizer.read_text()
    tokenizer.unlink()
    refused("lacks tokenizer.json", str(folder))
    tokenizer.write_text(text)
    data = weights.read_bytes()
    weights.write_bytes(data[:-100])
    refused("truncated", str(folder))
    weights.unlink()
    refused("lacks weights", str(folder))
    config = folder / "open_clip_config.json"
    config.write_text(json.dumps({"model_cfg": {**CONFIG, "vision_cfg": {"nonsense": 1}}}))
    weights.write_bytes(data)
    refused("can't build", str(folder))
    config.write_text("{")
    refused("expected JSON", str(folder))
    config.unlink()
    refused("open_clip_config.json", str(folder))


def test_a_folder_whose_image_tower_is_timms(tmp_path):
    model = tiny_timm(name="regionlm_tiny_eva")
    config = timm_config(name="regionlm_tiny_eva")
    own = open_clip.SimpleTokenizer(context_length=TEXT["context_length"])
    backbone = ClipViT(model, tokenizer=own, config=config, mean=(0.1, 0.2, 0.3))
    save_backbone(backbone, tmp_path)
    again = load_backbone(str(tmp_path), device="cpu")
    pixels = torch.randn(1, 3, 32, 32)
    assert torch.equal(backbone.embed_images(pixels), again.embed_images(pixels))
    assert torch.equal(backbone.embed_texts(["a dog"]), again.embed_texts(["a dog"]))
    assert again.mean == (0.1, 0.2, 0.3)


def test_unknown_names():
    assert "ViT-B-32" in refused("did you mean", "ViT-B-23")
    refused("no such folder", "/nowhere/at/all")
    refused("no open_clip model of that name", "qwertyuiop")
    assert "laion2b_s34b_b79k" in refused("names no weights", "ViT-B/32")
    refused("neither a file nor one of its tags", "ViT-B-32", pretrained="opnai")
    refused(
        "ResNet; take a plain ViT instead.*regionlm models --all",
        "RN50",
        pretrained="openai",
        offline=True,
    )
    refused("ConvNeXt", "convnext_tiny", pretrained="x", offline=True)
    refused("hub only", "roberta-ViT-B-32", pretrained="laion2b_s12b_b32k", offline=True)


def test_offline_never_asks_the_network(monkeypatch, tmp_path):
    import socket

    def no_network(*args, **kwargs):
        raise AssertionError("asked the network")

    monkeypatch.setattr(socket.socket, "connect", no_network)
    monkeypatch.setattr(socket, "getaddrinfo", no_network)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    refused("no model 'org/x' in the local hub cache", "hf-hub:org/x", offline=True)
    monkeypatch.setattr("pathlib.Path.is_file", lambda self: False)
    message = refused("not on this machine", "ViT-B-32", pretrained="openai", offline=True)
    assert "--offline" in message and "as pretrained" in message


def test_a_tag_decides_the_activation(named, monkeypatch, tmp_path):
    path = tmp_path / "weights.pt"
    torch.save(named.state_dict(), path)
    monkeypatch.setattr("regionlm.backbones.loading.find_weights", lambda what, tag, offline: path)
    quick = load_backbone("ViT-tiny-8", pretrained="quick", device="cpu")
    plain = load_backbone("ViT-tiny-8", pretrained="plain", device="cpu")
    assert (activation_of(quick), activation_of(plain)) == ("quick_gelu", "gelu")
    assert quick.mean == (0.1, 0.2, 0.3)
    assert type(quick.model.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"


@pytest.mark.parametrize(
    "name, file, options, wanted",
    [
        ("ViT-tiny-8", "mine.pt", {}, "gelu"),
        ("ViT-tiny-8-quickgelu", "mine.pt", {}, "quick_gelu"),
        ("ViT-tiny-8", "vit_tiny-quickgelu-mine.pt", {}, "quick_gelu"),
        ("ViT-tiny-8", "q.pt", {}, "quick_gelu"),  # the file that the tag "quick" downloads
        ("ViT-tiny-8", "p.pt", {}, "gelu"),
        ("ViT-tiny-8", "mine.pt", {"quick_gelu": True}, "quick_gelu"),
        ("ViT-tiny-8-quickgelu", "mine.pt", {"quick_gelu": False}, "gelu"),
    ],
)
def test_activation_for_a_checkpoint_file(named, tmp_path, recwarn, name, file, options, wanted):
    torch.save({"state_dict": {f"module.{k}": v for k, v in named.state_dict().items()}},
               tmp_path / file)  # fmt: skip
    backbone = load_backbone(name, pretrained=str(tmp_path / file), device="cpu", **options)
    assert activation_of(backbone) == wanted
    torch.testing.assert_close(backbone.model.visual.proj, named.visual.proj)
    said = [w for w in recwarn if issubclass(w.category, ModelWarning)]
    nobody_knows = (name, file, options) == ("ViT-tiny-8", "mine.pt", {})
    assert len(said) == nobody_knows
    if nobody_knows:
        message = str(said[0].message)
        assert file in message and "quick_gelu=True or False" in message and "\n" not in message
        assert said[0].filename == __file__


def test_a_model_without_a_quick_gelu_twin_is_not_doubted(named, tmp_path, monkeypatch, recwarn):
    from open_clip import factory

    monkeypatch.delitem(factory._MODEL_CONFIGS, "ViT-tiny-8-quickgelu")
    torch.save(named.state_dict(), tmp_path / "mine.pt")
    load_backbone("ViT-tiny-8", pretrained=str(tmp_path / "mine.pt"), device="cpu")
    assert not [w for w in recwarn if issubclass(w.category, ModelWarning)]


def test_a_folder_that_is_the_working_directory_has_a_name(folder, monkeypatch):
    monkeypatch.chdir(folder)
    assert load_backbone(".", device="cpu").name == "tiny"


def test_an_openai_archive_is_quick_gelu(named, tmp_path):
    path = tmp_path / "ViT-tiny-8.pt"
    extras = {"input_resolution": torch.tensor(32)}
    write_torchscript(path, {k: v.half() for k, v in named.state_dict().items()} | extras)
    backbone = load_backbone("ViT-tiny-8", pretrained=str(path), device="cpu")
    assert activation_of(backbone) == "quick_gelu"
    torch.testing.assert_close(backbone.model.visual.proj, named.visual.proj.half().float())


@pytest.mark.parametrize("name", ["ViT-tiny-8", "ViT-tiny-8-quickgelu"])
@pytest.mark.parametrize("quick", [False, True])
def test_a_model_scripted_from_open_clip(named, tmp_path, recwarn, quick, name):
    path, model = tmp_path / "w.pt", open_clip.CLIP(**NAMED_CONFIG, quick_gelu=quick).eval()
    inputs = torch.zeros(1, 3, 32, 32), torch.zeros(1, 6, dtype=torch.long)
    # As the writer above does. Scripting gives the same files, but can't be done beside the spy of
    # tests/deprecations.py.
    write = "torch.jit.trace(model, inputs, check_trace=False).save(path)"
    words = {"__name__": "somebody", "torch": torch, "inputs": inputs}
    exec(write, {**words, "model": model, "path": str(path)})
    backbone = load_backbone(name, pretrained=str(path), device="cpu")
    assert activation_of(backbone) == ("quick_gelu" if quick else "gelu")
    assert not [one for one in recwarn if one.category is ModelWarning]
    pixels = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        wanted = model.encode_image(pixels)
    torch.testing.assert_close(backbone.embed_images(pixels), wanted, atol=1e-5, rtol=1e-5)


def test_a_missing_tokenizer_is_told_before_weights_are_read(tmp_path, monkeypatch):
    """Of a SigLIP, whose tokenizer is on the hub."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"damaged")
    message = refused("tokenizer", "ViT-B-16-SigLIP", pretrained=str(weights), offline=True)
    assert "timm/ViT-B-16-SigLIP" in message and "--offline" in message
