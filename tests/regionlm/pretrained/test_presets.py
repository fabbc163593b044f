"""Presets from local files: what is missing is said, what is complete loads."""

import json

import numpy as np
import open_clip
import pytest
import torch
from safetensors.torch import save_file
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GPT2Config, GPT2LMHeadModel

from prefix_models import ClipCap, ClipCapConfig, PrefixModelError, original_state_dict
from prefix_models.clipcap.original import gpt2_tokenizer
from regionlm import ModelError, RegionCaptioner
from regionlm.pretrained.presets import PRESETS

NAME, PRESET = next(iter(PRESETS.items()))
CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "patch_size": 8, "width": 32, "layers": 1, "head_width": 8},
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1},
    "quick_gelu": True,
}


@pytest.fixture
def clip(monkeypatch):
    """A tiny model that open_clip takes for the preset's."""
    monkeypatch.setitem(open_clip.factory._MODEL_CONFIGS, PRESET.backbone, CLIP)
    torch.manual_seed(0)
    return open_clip.CLIP(**json.loads(json.dumps(CLIP)))


@pytest.fixture
def folder(clip, tmp_path, monkeypatch):
    """All files of the preset in its folder, and nothing in the caches of this machine."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("REGIONLM_MODELS", str(tmp_path))
    folder = tmp_path / NAME
    folder.mkdir()
    symbols = [*sorted(ByteLevel.alphabet()), "<|endoftext|>"]
    (folder / "vocab.json").write_text(json.dumps({s: i for i, s in enumerate(symbols)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    lm = GPT2LMHeadModel(
        GPT2Config(vocab_size=len(symbols), n_positions=64, n_embd=64, n_layer=1, n_head=1)
    )
    config = ClipCapConfig(embedding_dim=16, prefix_length=10, stop="period")
    captioner = ClipCap(lm, gpt2_tokenizer(folder), config)
    torch.save(original_state_dict(captioner), folder / PRESET.file)
    torch.save(clip.state_dict(), folder / "ViT-B-32.pt")
    return folder


def load():
    return RegionCaptioner.from_pretrained(NAME, device="cpu", offline=True)


@pytest.mark.parametrize("file", ["ViT-B-32.pt", "open_clip_model.safetensors"])
def test_a_complete_folder_loads(folder, clip, file):
    if file != "ViT-B-32.pt":
        (folder / "ViT-B-32.pt").unlink()
        save_file(clip.state_dict(), folder / file)
    captioner = load()
    assert captioner.name == NAME and captioner.backbone.name == "ViT-B-32-quickgelu/openai"
    assert captioner.prefix_model.config.encoder == captioner.backbone.name
    assert torch.equal(captioner.backbone.model.visual.proj, clip.visual.proj)
    assert captioner.backbone.head().block.activation.kind == "quick_gelu"
    picture = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    mask = np.zeros((30, 40), bool)
    mask[5:20, 10:30] = True
    (found,) = captioner.caption(picture, mask, size=32, steps=2, max_new_tokens=3)
    assert len(found.generation.token_ids) == 3 and np.isfinite(found.logprob)


@pytest.mark.parametrize(
    ("files", "where"),
    [
        ([PRESET.file], f"put it at {{folder}}/{PRESET.file}"),
        (["vocab.json", "merges.txt"], "vocab.json and merges.txt (or tokenizer.json) at {folder}"),
        (["vocab.json"], "{folder} lacks a GPT-2 tokenizer: put tokenizer.json, or vocab.json and"),
        (["merges.txt"], "{folder} lacks a GPT-2 tokenizer: put tokenizer.json, or vocab.json and"),
        (["ViT-B-32.pt"], "put open_clip_model.safetensors or ViT-B-32.pt at {folder}"),
    ],
    ids=lambda value: "+".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_missing_file_is_named_with_its_place(folder, files, where):
    for file in files:
        (folder / file).unlink()
    with pytest.raises((ModelError, PrefixModelError)) as caught:
        load()
    assert where.format(folder=folder) in str(caught.value)
    assert "\n" not in str(caught.value)
