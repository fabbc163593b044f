"""Tiny random models: a factory of CLIPs, a complete bundle, and pictures to ask it about."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from tests.regionlm.ray_cluster import ray_cluster  # noqa: F401  # a fixture

_WORDS = ["a", "red", "blue", ",", ".", "cat", "dog", "bird", "taxi", "owl", "on", "snow"]
_DIM = 16
_CLIP = {
    "embed_dim": _DIM,
    "vision_cfg": {
        "image_size": 32,
        "layers": 2,
        "width": 32,
        "head_width": 8,
        "patch_size": 8,
    },
    "text_cfg": {"context_length": 12, "vocab_size": 40, "width": 16, "heads": 2, "layers": 1},
}


def _write_backbone(folder: Path) -> None:
    from safetensors.torch import save_file
    from tokenizers import Tokenizer, models, pre_tokenizers, processors

    folder.mkdir(parents=True)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = open_clip.CLIP(**json.loads(json.dumps(_CLIP)))
    save_file(dict(model.state_dict()), folder / "open_clip_model.safetensors")
    config = {"model_cfg": _CLIP, "preprocess_cfg": {"mean": [0.5] * 3, "std": [0.5] * 3}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    vocabulary = {"<pad>": 0, "<start>": 1, "<unk>": 2}
    vocabulary |= {word: 3 + i for i, word in enumerate(_WORDS)} | {"<end>": 39}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<start> $A <end>", special_tokens=[("<start>", 1), ("<end>", 39)]
    )
    tokenizer.save(str(folder / "tokenizer.json"))


def _write_bundle(folder: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from prefix_models.clipcap.config import ClipCapConfig
    from prefix_models.clipcap.model import ClipCap
    from prefix_models.lm.word_tokenizer import word_tokenizer

    _write_backbone(folder / "backbone")
    tokenizer = word_tokenizer(_WORDS)
    sizes = {"n_positions": 40, "n_embd": 16, "n_layer": 1, "n_head": 2}
    settings = GPT2Config(
        vocab_size=len(tokenizer), eos_token_id=2, bos_token_id=None, initializer_range=0.6, **sizes
    )
    config = ClipCapConfig(embedding_dim=_DIM, prefix_length=3, encoder="tiny")
    with torch.random.fork_rng():
        torch.manual_seed(1)
        ClipCap(GPT2LMHeadModel(settings), tokenizer, config).save_pretrained(
            folder / "prefix_model"
        )
    features = {"dim": _DIM, "patch_size": [8, 8], "pooling": "cls"}
    about = {
        "format": "regionlm/bundle",
        "format_version": 1,
        "name": "tiny",
        "rescale": True,
        "inversion": {"steps": 3, "lr": 0.1, "size": 32},
        "backbone": {"name": "tiny", **features, "mean": [0.5] * 3, "std": [0.5] * 3},
    }
    (folder / "config.json").write_text(json.dumps(about))


@pytest.fixture(scope="session")
def tiny_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle whose random parts load and run in a moment. Do not change it."""
    folder = tmp_path_factory.mktemp("bundles") / "tiny"
    _write_bundle(folder)
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """A picture of noise, 40 wide and 30 high."""
    pixels = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "image.png")
    return tmp_path / "image.png"


@pytest.fixture
def write_mask(tmp_path: Path) -> Callable[..., Path]:
    """Write a mask for `image`: write_mask("m.png", top, left, bottom, right)."""

    def write(name: str, *corners: int) -> Path:
        top, left, bottom, right = corners or (5, 10, 20, 30)
        values = np.zeros((30, 40), np.uint8)
        values[top:bottom, left:right] = 255
        Image.fromarray(values).save(tmp_path / name)
        return tmp_path / name

    return write


@pytest.fixture(scope="session")
def tiny_clip():
    """A factory of random open_clip models, far from their initialisation; seeded."""

    def build(pool="tok", seed=0, quick_gelu=False, **vision):
        torch.manual_seed(seed)
        config = {
            "image_size": 32,
            "patch_size": 8,
            "width": 32,
            "layers": 2,
            "head_width": 8,
            "pool_type": pool,
            "final_ln_after_pool": pool == "avg",
            **vision,
        }
        text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        model = open_clip.CLIP(24, config, text, quick_gelu=quick_gelu).eval()
        with torch.no_grad():
            for parameter in model.visual.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return model

    return build


@pytest.fixture
def write_alphaclip(tmp_path: Path) -> Callable[..., Path]:
    """Write an Alpha-CLIP checkpoint as published: a model's image tower under their names, and a
    convolution of the mask (random by default)."""

    def write(model, alpha=None, **changes):
        tower = model.visual.state_dict()
        state = {k.replace(".attn.in_proj_", ".attn.in_proj."): v for k, v in tower.items()}
        width, _, *patch = tower["conv1.weight"].shape
        if alpha is None:  # seeded: by chance, a tiny captioner writes nothing
            alpha = torch.randn(width, 1, *patch, generator=torch.Generator().manual_seed(0))
        state["conv1_alpha.weight"] = alpha
        torch.save({**state, **changes}, tmp_path / "alphaclip.pth")
        return tmp_path / "alphaclip.pth"

    return write
