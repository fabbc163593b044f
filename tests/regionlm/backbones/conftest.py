"""A tiny model that open_clip knows by name; tiny tokenizers of all families that its models name.

The latter in the hub cache's own layout.
"""

import json
import shutil
import socket
from pathlib import Path

import open_clip
import pytest
import torch
from tokenizers import pre_tokenizers
from transformers import (
    BertTokenizerFast,
    GemmaTokenizerFast,
    NllbTokenizerFast,
    RobertaTokenizerFast,
    T5TokenizerFast,
    XLMRobertaTokenizerFast,
)

from tests.regionlm.backbones.tiny_open_clip import NAMED_CONFIG

_SIGNS = [*"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.,;:!?'\"&-_<>éüßœŒ狗"]
_COMMIT = "0" * 40
_MERGES = [("d", "o"), ("do", "g")]


def _numbered(*pieces):
    return {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}


def _unigram(*special):
    return [*((piece, 0.0) for piece in special), ("▁", -2.0), ("▁dog", -3.0),
            *((sign, -4.0) for sign in _SIGNS)]  # fmt: skip


def _bert():
    words = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dog", "##s", *_SIGNS)
    vocabulary = _numbered(*words, *(f"##{sign}" for sign in _SIGNS))
    return BertTokenizerFast(vocab=vocabulary, do_lower_case=True)


def _t5():
    return T5TokenizerFast(vocab=_unigram("<pad>", "</s>", "<unk>"), extra_ids=0)


def _xlm_roberta():
    vocabulary = [*_unigram("<s>", "<pad>", "</s>", "<unk>"), ("<mask>", 0.0)]
    return XLMRobertaTokenizerFast(vocab=vocabulary)


def _gemma():
    vocabulary = _numbered("<pad>", "<eos>", "<bos>", "<unk>", "▁", *_SIGNS, "do", "dog")
    return GemmaTokenizerFast(
        vocab=vocabulary, merges=_MERGES, padding_side="right", add_bos_token=False,
        add_eos_token=True,
    )  # fmt: skip


def _roberta():
    signs = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = _numbered("<s>", "<pad>", "</s>", "<unk>", *signs, "do", "dog", "<mask>")
    return RobertaTokenizerFast(vocab=vocabulary, merges=_MERGES)


def _nllb():
    vocabulary = _numbered("<s>", "<pad>", "</s>", "<unk>", "▁", *_SIGNS, "do", "dog")
    return NllbTokenizerFast(vocab=vocabulary, merges=_MERGES)


#: Part of a tokenizer's name on the hub -> what makes a tiny one of its family, and what that
#: repository's config.json calls its model (timm's call theirs nothing); first come first.
_FAMILIES = {
    "siglip2": (_gemma, None),
    "siglip": (_t5, None),
    "mt5": (_t5, "mt5"),
    "nllb": (_nllb, None),  # m2m_100, which transformers 5.0 takes with sentencepiece only
    "xlm": (_xlm_roberta, "xlm-roberta"),
    "roberta": (_roberta, "roberta"),
    "bert": (_bert, "bert"),
}


def _write_tokenizer(name, folder):
    found = next((family for part, family in _FAMILIES.items() if part in name.lower()), None)
    if found is None:
        raise AssertionError(f"open_clip has a new tokenizer {name}: add its family")
    make, model_type = found
    make().save_pretrained(folder)
    (folder / "config.json").write_text(
        json.dumps({"model_type": model_type} if model_type else {})
    )


@pytest.fixture(scope="session")
def named_tokenizers():
    """Names of the tokenizers of all of open_clip's models."""
    texts = [open_clip.get_model_config(name)["text_cfg"] for name in open_clip.list_models()]
    return sorted({text["hf_tokenizer_name"] for text in texts if text.get("hf_tokenizer_name")})


@pytest.fixture(scope="session")
def hub_cache(named_tokenizers, tmp_path_factory):
    """A hub cache that holds a tiny tokenizer under each of these names."""
    cache = tmp_path_factory.mktemp("hub")
    for name in named_tokenizers:
        repository = cache / f"models--{name.replace('/', '--')}"
        _write_tokenizer(name, repository / "snapshots" / _COMMIT)
        (repository / "refs").mkdir()
        (repository / "refs" / "main").write_text(_COMMIT)
    return cache


@pytest.fixture(scope="session")
def model_folder(hub_cache):
    """Write the folder of an open_clip model's config and tokenizer, weights left out."""

    def write(folder: Path, config: dict) -> Path:
        named = config["text_cfg"].get("hf_tokenizer_name")
        if named:
            repository = hub_cache / f"models--{named.replace('/', '--')}"
            shutil.copytree(repository / "snapshots" / _COMMIT, folder)
        folder.mkdir(exist_ok=True)
        (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": config}))
        return folder

    return write


@pytest.fixture
def no_network(monkeypatch):
    """Whoever asks the network fails the test, also if the error was caught on its way."""
    asked = []

    def refuse(*args, **kwargs):
        asked.append(args)
        raise OSError("there is no network")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    yield
    assert not asked


@pytest.fixture
def named(monkeypatch):
    """A small architecture that open_clip knows by name, plain and QuickGELU, with a tag each."""
    from open_clip import factory, pretrained

    config = NAMED_CONFIG
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny-8", config)
    quick = {**config, "quick_gelu": True}
    monkeypatch.setitem(factory._MODEL_CONFIGS, "ViT-tiny-8-quickgelu", quick)
    tags = {
        "quick": {"url": "https://example.org/q.pt", "quick_gelu": True, "mean": (0.1, 0.2, 0.3)},
        "plain": {"url": "https://example.org/p.pt"},
    }
    monkeypatch.setitem(pretrained._PRETRAINED, "ViT-tiny-8", tags)
    torch.manual_seed(1)
    return open_clip.CLIP(**config)
