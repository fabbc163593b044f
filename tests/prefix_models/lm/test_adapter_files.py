"""Folders of adapters: names are peft's, all must fit, and nothing is changed where it does not."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import peft
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from prefix_models import ClipCap, ClipCapConfig, PrefixModelError, add_lora
from prefix_models.lm.adapter_files import CONFIG, WEIGHTS, read_adapter, write_adapter
from tests.prefix_models.kinds import DIM
from tests.prefix_models.lm.adapted import (
    CASES,
    TOKENIZER,
    everything,
    injected,
    plain,
    scores,
    unchanged,
    wrapped,
)

WAYS = {"wrapped": wrapped, "injected": injected}


@pytest.fixture(autouse=True)
def _seeded() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("case", ["dora", "head", "tokens"])
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_peft_reads_what_we_write_and_we_what_it_writes(
    case: str, way: str, tmp_path: Path
) -> None:
    """Names in the files, and of the files, are peft's."""
    lm = WAYS[way]("llama", "mine", **CASES[case])
    ClipCap(lm, TOKENIZER, ClipCapConfig(DIM)).save_pretrained(tmp_path / "m")
    base = AutoModelForCausalLM.from_pretrained(tmp_path / "m/language_model")
    read = peft.PeftModel.from_pretrained(base, tmp_path / "m/language_model/adapter").eval()
    torch.testing.assert_close(scores(read), scores(lm), atol=1e-5, rtol=0)
    read.save_pretrained(tmp_path / "adapter")
    again = read_adapter(read.unload(), tmp_path / "adapter")
    torch.testing.assert_close(scores(again.eval()), scores(lm), atol=1e-5, rtol=0)


@pytest.mark.parametrize("way", list(WAYS))
def test_adapters_are_not_put_on_adapters(way: str, tmp_path: Path) -> None:
    lm = WAYS[way]("llama")
    before = everything(lm)
    with pytest.raises(PrefixModelError, match="without adapters, found some on it"):
        add_lora(lm)
    write_adapter(lm, tmp_path / "adapter")
    with pytest.raises(PrefixModelError, match="without adapters, found some on it"):
        read_adapter(lm, tmp_path / "adapter")
    assert unchanged(lm, before)


def test_embeddings_beside_adapters_are_taken_if_they_are_the_language_models_own(
    tmp_path: Path,
) -> None:
    """peft writes them where they are adapted, or where it thinks that they grew."""
    lm = wrapped("llama", target_modules=["embed_tokens"])
    lm.save_pretrained(tmp_path / "adapter", save_embedding_layers=True)
    weights = load_file(tmp_path / "adapter" / WEIGHTS)
    (name,) = [name for name in weights if name.endswith("embed_tokens.base_layer.weight")]
    wanted, base = scores(lm), lm.unload()
    found = read_adapter(base, tmp_path / "adapter").eval()
    torch.testing.assert_close(scores(found), wanted, atol=1e-5, rtol=0)
    save_file({**weights, name: weights[name] + 1}, tmp_path / "adapter" / WEIGHTS)
    with pytest.raises(PrefixModelError, match="embeddings other than the language model's"):
        read_adapter(found.unload(), tmp_path / "adapter")


@pytest.mark.parametrize("change", ["gone", "more", "shape", "rank", "json", "kind", "class"])
def test_adapters_that_do_not_fit_leave_the_language_model_as_it_was(
    change: str, tmp_path: Path
) -> None:
    write_adapter(wrapped("llama"), tmp_path / "a")
    weights, config = load_file(tmp_path / "a" / WEIGHTS), tmp_path / "a" / CONFIG
    values = json.loads(config.read_text())
    first = next(iter(weights))
    if change == "gone":
        del weights[first]
    elif change == "more":
        weights["base_model.model.x"] = torch.zeros(1)
    elif change == "shape":
        weights[first] = torch.zeros(2, 2)
    values |= {"rank": {"r": 5}, "kind": {"peft_type": "IA3"}}.get(change, {})
    save_file(weights, tmp_path / "a" / WEIGHTS)
    config.write_text("{" if change == "json" else json.dumps(values))
    lm = plain("gpt2" if change == "class" else "llama")
    before = everything(lm)
    with pytest.raises(PrefixModelError) as raised:
        read_adapter(lm, tmp_path / "a")
    assert "\n" not in str(raised.value) and "adapter" in str(raised.value)
    assert unchanged(lm, before)
