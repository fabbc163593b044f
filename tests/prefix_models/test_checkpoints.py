"""Reading checkpoints in the published layout, made here from tiny random models."""

import json
import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel

from prefix_models import (
    ClipCap,
    PrefixModelError,
    gpt2_tokenizer,
    load_original,
    original_state_dict,
)


@pytest.fixture
def published(build: Callable[..., ClipCap]) -> ClipCap:
    return build(stop="period", encoder="ViT-B-32-quickgelu/openai", mapper_width=24)


@pytest.fixture
def weights(published: ClipCap) -> dict[str, torch.Tensor]:
    """State dict as saved under transformers 4: with causal-mask buffers."""
    state = {name: value.clone() for name, value in original_state_dict(published).items()}
    for layer in range(2):
        mask = torch.ones(40, 40, dtype=torch.uint8).tril()[None, None]
        state[f"gpt.transformer.h.{layer}.attn.bias"] = mask
        state[f"gpt.transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return state


@pytest.fixture
def load(published: ClipCap, tmp_path: Path) -> Callable[[Any], ClipCap]:
    def save_and_load(content: Any) -> ClipCap:
        path = tmp_path / "weights.pt"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        return load_original(path, published.tokenizer, heads=2)

    return save_and_load


def fails(load: Callable[[Any], ClipCap], content: Any, message: str) -> None:
    with pytest.raises(PrefixModelError, match=message) as error:
        load(content)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_round_trip(
    load: Callable[[Any], ClipCap],
    published: ClipCap,
    weights: dict[str, torch.Tensor],
    embeddings: torch.Tensor,
    caplog: pytest.LogCaptureFixture,
    dtype: torch.dtype,
) -> None:
    expected = {name: value.to(dtype).float() for name, value in published.state_dict().items()}
    with caplog.at_level(logging.INFO, logger="prefix_models"):
        loaded = load({
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in weights.items()
        })  # fmt: skip
    assert "dropped 4 old GPT-2 mask buffers" in caplog.text
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert loaded.config == published.config
    assert loaded.lm.config.n_layer == 2 and loaded.lm.config.n_positions == 40
    assert original_state_dict(loaded).keys() == original_state_dict(published).keys()
    if dtype == torch.float32:
        assert loaded.generate(embeddings) == published.generate(embeddings)


def test_key_layout_of_the_published_code(published: ClipCap) -> None:
    names = set(original_state_dict(published))
    assert {name for name in names if not name.startswith("gpt.")} == {
        f"clip_project.model.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")
    }
    assert {"gpt.lm_head.weight", "gpt.transformer.wte.weight"} <= names
    assert "gpt.transformer.h.1.attn.c_attn.bias" in names  # not one of the old buffers


def test_legacy_file_format(
    published: ClipCap, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(weights, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    loaded = load_original(tmp_path / "w.pt", published.tokenizer, heads=2)
    assert torch.equal(loaded.mapper.inner.weight, published.mapper.inner.weight)


def test_code_in_a_pickle_is_not_executed(
    load: Callable[[Any], ClipCap], weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    trap = tmp_path / "executed"

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (trap,))

    for content in (pickle.dumps(Code()), {**weights, "gpt.x": Code()}):
        fails(load, content, "could run code; nothing was executed|truncated or not a torch")
    fails(load, {**weights, "gpt.x": Code()}, "could run code; nothing was executed")
    assert not trap.exists()


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.95])
def test_truncated(
    load: Callable[[Any], ClipCap],
    weights: dict[str, torch.Tensor],
    tmp_path: Path,
    keep: float,
    legacy: bool,
) -> None:
    torch.save(weights, tmp_path / "whole.pt", _use_new_zipfile_serialization=not legacy)
    data = (tmp_path / "whole.pt").read_bytes()
    fails(load, data[: int(keep * len(data))], "is truncated or not a torch checkpoint")


def test_other_files(
    load: Callable[[Any], ClipCap], weights: dict[str, torch.Tensor], published: ClipCap
) -> None:
    fails(load, b"<html>not found</html>", "is truncated or not a torch checkpoint")
    fails(load, [1, 2], "is not a state dict")
    fails(load, {"state_dict": weights}, "is not a state dict")
    fails(load, {}, r"not a ClipCap checkpoint .* lacks clip_project\.model\.0\.weight")
    with pytest.raises(PrefixModelError, match=r"missing file: nowhere\.pt; download"):
        load_original("nowhere.pt", published.tokenizer)


def test_other_mappers(load: Callable[[Any], ClipCap], weights: dict[str, torch.Tensor]) -> None:
    one = {"clip_project.transformer.layers.0.norm1.weight": torch.ones(16)}
    fails(load, {**weights, **one}, "only checkpoints with the MLP mapper")
    linear = {name: value for name, value in weights.items() if "clip_project" not in name}
    linear["clip_project.weight"] = torch.zeros(64, 12)
    fails(load, linear, "not a ClipCap checkpoint with an MLP mapper")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("clip_project.model.2.weight", (65, 24), "65 outputs are no multiple of GPT-2's width 16"),
        ("clip_project.model.2.bias", (48,), r"outer\.bias has shape \[48\].* ask for \[64\]"),
        ("clip_project.model.0.weight", (12,), "not matrices"),
        ("gpt.transformer.wpe.weight", (40, 12), r"wpe\.weight has shape \[40, 12\]"),
        ("gpt.transformer.ln_f.weight", (12,), r"ln_f\.weight has shape \[12\].* for \[16\]"),
    ],
)
def test_wrong_sizes(
    load: Callable[[Any], ClipCap],
    weights: dict[str, torch.Tensor],
    name: str,
    shape: tuple[int, ...],
    message: str,
) -> None:
    fails(load, {**weights, name: torch.zeros(shape)}, message)


def test_wrong_names(load: Callable[[Any], ClipCap], weights: dict[str, torch.Tensor]) -> None:
    fails(load, {**weights, "other.weight": torch.ones(1)}, "unexpected weights, .* other.weight")
    fails(load, {**weights, "gpt.odd": torch.ones(1)}, "missing nothing, unexpected odd")
    lacking = dict(weights)
    del lacking["gpt.transformer.h.0.ln_1.bias"]
    fails(load, lacking, r"missing transformer\.h\.0\.ln_1\.bias, unexpected nothing")
    untied = {**weights, "gpt.lm_head.weight": torch.zeros(19, 16)}
    fails(load, untied, "lm_head.weight differs from")


def test_tokenizer_and_heads_must_fit(
    published: ClipCap, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(PrefixModelError, match="width 16 cannot have 0 heads"):
        load_original(tmp_path / "w.pt", published.tokenizer)
    with pytest.raises(PrefixModelError, match="width 16 cannot have 3 heads"):
        load_original(tmp_path / "w.pt", published.tokenizer, heads=3)
    published.tokenizer.add_tokens(["more"])
    with pytest.raises(PrefixModelError, match="tokenizer knows 20 tokens, the language model 19"):
        load_original(tmp_path / "w.pt", published.tokenizer, heads=2)


@pytest.fixture
def gpt2_files(tmp_path: Path) -> Path:
    """A toy byte-level vocabulary in GPT-2's two files."""
    symbols = sorted(ByteLevel.alphabet())
    vocabulary = {symbol: i for i, symbol in enumerate([*symbols, "Ġ.", "<|endoftext|>"])}
    folder = tmp_path / "gpt2"
    folder.mkdir()
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


def test_gpt2_tokenizer_missing(tmp_path: Path) -> None:
    with pytest.raises(PrefixModelError, match=r"lacks a GPT-2 tokenizer: put tokenizer\.json"):
        gpt2_tokenizer(tmp_path)
    with pytest.raises(PrefixModelError, match=r"put vocab\.json and merges\.txt of openai"):
        gpt2_tokenizer("regionlm-tests/absent", offline=True)
