"""Whatever goes wrong while a folder is written is seen before it stands there."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, MixtralConfig

from prefix_models import (
    ClipCap,
    ClipCapConfig,
    PrefixModel,
    PrefixModelError,
    ProjectorConfig,
    ProjectorModel,
    load_prefix_model,
)
from prefix_models.folders import FolderKind
from tests.prefix_models.kinds import DIM, SIZES
from tests.prefix_models.lm.adapted import TOKENIZER, injected, plain, wrapped

LM, ADAPTER = Path("language_model"), Path("language_model/adapter")
SETTINGS = ClipCapConfig(DIM, prefix_length=2, mapper="linear")


def clipcap(lm: Any) -> ClipCap:
    return ClipCap(lm, TOKENIZER, SETTINGS).eval()


def projector(lm: Any) -> ProjectorModel:
    return ProjectorModel(lm, TOKENIZER, ProjectorConfig(DIM, tokens_per_region=2)).eval()


def weights(name: str | Path, change: Callable[[dict[str, torch.Tensor]], Any]) -> Any:
    def spoil(folder: Path) -> None:
        found = {key: value.clone() for key, value in load_file(folder / name).items()}
        change(found)
        save_file(found, folder / name, {"format": "pt"})

    return spoil


def setting(name: str | Path, **values: Any) -> Any:
    def spoil(folder: Path) -> None:
        path = folder / name
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return spoil


def gone(name: str | Path) -> Any:
    return lambda folder: (folder / name).unlink()


def nudge(found: dict[str, torch.Tensor]) -> None:
    found[max(found)].view(-1)[-1] += 1e-3


def halve(found: dict[str, torch.Tensor]) -> None:
    found[max(found)] = found[max(found)].half()


def drop(found: dict[str, torch.Tensor]) -> None:
    del found[max(found)]


def add(found: dict[str, torch.Tensor]) -> None:
    found["more"] = torch.zeros(3)


FILES = (LM / "model.safetensors", ADAPTER / "adapter_model.safetensors", Path("weights"))
SPOILED = {
    f"{path.name} {change.__name__}": weights(path, change)
    for path in FILES
    for change in (nudge, halve, drop, add)
}
SPOILED |= {f"{path.name} gone": gone(path) for path in FILES}
SPOILED |= {
    "no config": gone(LM / "config.json"),
    "no tokenizer": gone(LM / "tokenizer.json"),
    "no adapter config": gone(ADAPTER / "adapter_config.json"),
    "other vocabulary": setting(LM / "config.json", vocab_size=99),
    "other layers": setting(LM / "config.json", num_hidden_layers=1),
    "other scale": setting(ADAPTER / "adapter_config.json", lora_alpha=1),
    "other rank": setting(ADAPTER / "adapter_config.json", r=4),
    "other settings": setting("config.json", tokenizer={"tokens": 3}),
    "no settings": gone("config.json"),
}


@pytest.fixture(scope="module")
def models() -> dict[str, PrefixModel]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return {"clipcap": clipcap(injected("llama")), "projector": projector(wrapped("llama"))}


@pytest.mark.parametrize("case", list(SPOILED))
@pytest.mark.parametrize("kind", ["clipcap", "projector"])
def test_what_is_not_as_it_was_to_be_written_is_no_folder(
    kind: str,
    case: str,
    models: dict[str, PrefixModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    model = models[kind]
    model.save_pretrained(tmp_path / "m")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    write_config = FolderKind.write_config

    def then_spoil(self: FolderKind, folder: Path, values: Any) -> None:
        write_config(self, folder, values)  # which comes last
        mapper = "mappers/default.safetensors" if kind == "clipcap" else "projector.safetensors"
        (folder / mapper).rename(folder / "weights") if "weights" in case else None
        try:
            SPOILED[case](folder)
        finally:
            if (folder / "weights").exists():
                (folder / "weights").rename(folder / mapper)

    monkeypatch.setattr(FolderKind, "write_config", then_spoil)
    with pytest.raises(PrefixModelError, match=r"m is left as it was, .* read back: ") as raised:
        model.save_pretrained(tmp_path / "m")
    assert "\n" not in str(raised.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def mixtral() -> Any:
    config = MixtralConfig(
        vocab_size=len(TOKENIZER),
        hidden_size=16,
        num_local_experts=3,
        num_key_value_heads=1,
        **SIZES,
    )
    return AutoModelForCausalLM.from_config(config).eval()


def test_experts_are_written_in_another_layout_than_they_are_kept_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = clipcap(mixtral())
    model.save_pretrained(tmp_path / "m")
    stored = load_file(tmp_path / "m" / LM / "model.safetensors")
    assert not stored.keys() <= model.lm.state_dict().keys()
    loaded = load_prefix_model(tmp_path / "m").lm.state_dict()
    assert all(value.equal(loaded[name]) for name, value in model.lm.state_dict().items())
    save = type(model.lm).save_pretrained

    def lose_an_expert(self: Any, folder: Path, *args: Any, **options: Any) -> None:
        save(self, folder, *args, **options)
        name = next(name for name in stored if name not in self.state_dict())
        weights("model.safetensors", lambda found: found.pop(name))(folder)

    monkeypatch.setattr(type(model.lm), "save_pretrained", lose_an_expert)
    with pytest.raises(
        PrefixModelError, match="the weights differ from those of the language model"
    ):
        model.save_pretrained(tmp_path / "m")


def test_weights_in_several_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = clipcap(plain("llama"))
    save = type(model.lm).save_pretrained

    def in_parts(self: Any, folder: Path, **options: Any) -> None:
        save(self, folder, max_shard_size="4KB", **options)

    monkeypatch.setattr(type(model.lm), "save_pretrained", in_parts)
    model.save_pretrained(tmp_path / "m")
    assert len(list((tmp_path / "m" / LM).glob("model-*.safetensors"))) > 1
    load_prefix_model(tmp_path / "m")


def test_a_named_language_model_must_fit_what_is_in_memory(tmp_path: Path) -> None:
    plain("llama").save_pretrained(tmp_path / "lm")
    lm = AutoModelForCausalLM.from_pretrained(tmp_path / "lm")
    lm.resize_token_embeddings(40)
    with pytest.raises(PrefixModelError, match=r"needs .* of shape \[21, 16\], .* \[40, 16\]"):
        projector(lm).save_pretrained(tmp_path / "m", language_model="reference")
    setting("lm/config.json", model_type="nonesuch")(tmp_path)
    with pytest.raises(PrefixModelError, match=r"cannot read config\.json of") as raised:
        projector(lm).save_pretrained(tmp_path / "m", language_model="reference")
    assert "\n" not in str(raised.value) and not (tmp_path / "m").exists()
