"""GPT-2's tokenizer as the published checkpoints had it, tidied texts included."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers.pre_tokenizers import ByteLevel
from transformers import GPT2Config, GPT2LMHeadModel

from prefix_models import ClipCap, ClipCapConfig, PrefixModelError, gpt2_tokenizer


@pytest.fixture
def gpt2_files(tmp_path: Path) -> Path:
    (tmp_path / "gpt2").mkdir()
    return write_gpt2_files(tmp_path / "gpt2")


def write_gpt2_files(folder: Path) -> Path:
    """A toy byte-level vocabulary in GPT-2's two files."""
    symbols = sorted(ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate([*symbols, "Ġ.", "<|endoftext|>"])}
    (folder / "vocab.json").write_text(json.dumps(vocabulary))
    (folder / "merges.txt").write_text("#version: 0.2\nĠ .\n")
    return folder


def test_gpt2_tokenizer_from_files(gpt2_files: Path, tmp_path: Path) -> None:
    tokenizer = gpt2_tokenizer(gpt2_files)
    ids = tokenizer("A cat .", add_special_tokens=False)["input_ids"]
    assert tokenizer.convert_ids_to_tokens(ids)[-1] == "Ġ."
    assert tokenizer.decode(ids) == "A cat."  # tidied, as when the checkpoints were published
    assert len(tokenizer(".", add_special_tokens=False)["input_ids"]) == 1
    assert tokenizer.eos_token == "<|endoftext|>"
    tokenizer.save_pretrained(tmp_path / "again")
    again = gpt2_tokenizer(tmp_path / "again")
    assert again("A cat .")["input_ids"] == ids and again.decode(ids) == "A cat."


PUBLISHED_TIDYING = [
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
]  # fmt: skip


@pytest.fixture(scope="module")
def toy_gpt2(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return gpt2_tokenizer(write_gpt2_files(tmp_path_factory.mktemp("gpt2")))


@given(
    st.lists(st.sampled_from([*"ab.?!,'  \u00e9\n\u732b", *(a for a, _ in PUBLISHED_TIDYING)])),
    st.lists(st.integers(0, 257)),
)
def test_texts_are_tidied_as_when_the_checkpoints_were_published(
    toy_gpt2: Any, pieces: list[str], noise: list[int]
) -> None:
    """`clean_up_tokenization` of transformers 4.11, which the original code pins."""
    text = "".join(pieces)
    ids = toy_gpt2(text, add_special_tokens=False)["input_ids"]
    for before, after in PUBLISHED_TIDYING:
        text = text.replace(before, after)
    assert toy_gpt2.decode(ids) == text
    assert toy_gpt2.decode([257, *ids, 257], skip_special_tokens=True) == text
    toy_gpt2.decode(noise)  # bytes that are no text are none of its business


def test_a_stored_model_tidies_as_before(gpt2_files: Path, tmp_path: Path) -> None:
    tokenizer = gpt2_tokenizer(gpt2_files)
    lm = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=16, n_layer=1, n_head=2))
    ClipCap(lm, tokenizer, ClipCapConfig(8)).save_pretrained(tmp_path / "model")
    loaded = ClipCap.from_pretrained(tmp_path / "model")
    ids = tokenizer("A cat , it 's  .", add_special_tokens=False)["input_ids"]
    assert loaded.decode(ids) == "A cat, it's ."


def test_gpt2_tokenizer_missing(tmp_path: Path) -> None:
    with pytest.raises(PrefixModelError, match=r"lacks a GPT-2 tokenizer: put tokenizer\.json"):
        gpt2_tokenizer(tmp_path)
    with pytest.raises(PrefixModelError, match=r"put vocab\.json and merges\.txt of openai"):
        gpt2_tokenizer("regionlm-tests/absent", offline=True)
