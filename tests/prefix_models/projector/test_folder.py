"""Folders of projector models: language models named instead of stored, adapters, bundles."""

import builtins
import json
import socket
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM

from prefix_models import (
    ClipCap,
    ClipCapConfig,
    PrefixModelError,
    ProjectorConfig,
    ProjectorModel,
    add_lora,
    load_prefix_model,
    word_tokenizer,
)
from regionlm import RegionCaptioner
from regionlm.backbones.clip_vit import ClipViT
from tests.prefix_models.kinds import DIM, WORDS, causal_lm, projector

EMBEDDINGS = 3 * torch.randn(3, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """A language model's own folder, as the hub has them."""
    causal_lm("llama", len(WORDS) + 3).save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


@pytest.fixture
def model(base: Path) -> ProjectorModel:
    lm = AutoModelForCausalLM.from_pretrained(base)
    return ProjectorModel(lm, word_tokenizer(WORDS), ProjectorConfig(DIM)).eval()


def adapted(lm: Any) -> Any:
    lm = add_lora(lm, rank=3)
    with torch.no_grad():
        for name, parameter in lm.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5)
    return lm


def test_a_named_language_model_is_not_copied(
    model: ProjectorModel, base: Path, tmp_path: Path
) -> None:
    expected = model.generate(EMBEDDINGS)
    model.save_pretrained(tmp_path / "m", language_model="reference")
    assert not list((tmp_path / "m").rglob("model.safetensors"))
    loaded = load_prefix_model(tmp_path / "m")
    assert loaded.generate(EMBEDDINGS) == expected
    # A model that came so is written so, a stored one is stored.
    loaded.save_pretrained(tmp_path / "again")
    assert not list((tmp_path / "again").rglob("model.safetensors"))
    loaded.save_pretrained(tmp_path / "whole", language_model="store")
    base.rename(tmp_path / "moved")
    assert load_prefix_model(tmp_path / "whole").generate(EMBEDDINGS) == expected
    with pytest.raises(PrefixModelError, match=f"was in {base}, which no longer exists"):
        load_prefix_model(tmp_path / "m")


def test_a_language_model_at_hand_is_used_as_it_is(
    model: ProjectorModel, base: Path, tmp_path: Path
) -> None:
    model.save_pretrained(tmp_path / "m", language_model="reference")
    lm = AutoModelForCausalLM.from_pretrained(base).train()
    for parameter in lm.parameters():
        parameter.data = parameter.data.bfloat16()
    loaded = ProjectorModel.from_pretrained(tmp_path / "m", lm=lm, dtype=torch.float32)
    assert loaded.lm is lm and all(part.training for part in lm.modules())
    assert {p.dtype for p in lm.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in loaded.projector.parameters()} == {torch.float32}
    assert len(loaded.generate(EMBEDDINGS, max_new_tokens=3)) == 3
    with pytest.raises(
        PrefixModelError,
        match=r"model \(model_type llama\) than the one here \(model_type gpt2\)",
    ):
        ProjectorModel.from_pretrained(tmp_path / "m", lm=causal_lm("gpt2", len(WORDS) + 3))


def test_a_subclass_loads_as_such(model: ProjectorModel, tmp_path: Path) -> None:
    class Mine(ProjectorModel):
        pass

    model.save_pretrained(tmp_path / "m")
    assert type(Mine.from_pretrained(tmp_path / "m")) is Mine


def test_only_what_has_a_source_can_be_named(tmp_path: Path) -> None:
    model = projector("llama")
    with pytest.raises(PrefixModelError, match="needs a language model that from_pretrained load"):
        model.save_pretrained(tmp_path / "m", language_model="reference")
    with pytest.raises(PrefixModelError, match=r"one of \['store', 'reference'\], found 'copy'"):
        model.save_pretrained(tmp_path / "m", language_model="copy")
    assert not (tmp_path / "m").exists()


def test_offline_never_asks_the_hub(
    model: ProjectorModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model.save_pretrained(tmp_path / "m", language_model="reference")
    config = json.loads((tmp_path / "m/config.json").read_text())
    config["reference"] = {"source": "regionlm-tests/nothing-here", "revision": None}
    (tmp_path / "m/config.json").write_text(json.dumps(config))

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("network used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    with pytest.raises(
        PrefixModelError,
        match="cannot read the language model regionlm-tests/nothing-here in this machine's files",
    ):
        load_prefix_model(tmp_path / "m", offline=True)
    config["reference"] = {}
    (tmp_path / "m/config.json").write_text(json.dumps(config))
    with pytest.raises(PrefixModelError, match="no source"):
        load_prefix_model(tmp_path / "m", offline=True)


# --- adapters


def test_untrained_adapters_change_nothing_and_only_they_are_trained() -> None:
    model = projector("llama")
    before = model.generate(EMBEDDINGS)
    lm = add_lora(model.lm)
    with_lora = ProjectorModel(lm, model.tokenizer, model.config)
    with_lora.projector.load_state_dict(model.projector.state_dict())
    for found, expected in zip(with_lora.eval().generate(EMBEDDINGS), before, strict=True):
        assert found.token_ids == expected.token_ids
        assert found.token_logprobs == pytest.approx(expected.token_logprobs, abs=1e-5)
    trained = {name for name, value in lm.named_parameters() if value.requires_grad}
    assert trained and all("lora_" in name for name in trained)
    with_lora.loss(EMBEDDINGS, ["a", "a cat", "the dog"]).backward()
    assert all(value.grad is not None for name, value in lm.named_parameters() if name in trained)


@pytest.mark.parametrize("kind", ["gpt2", "qwen2"])
def test_adapters_are_stored_beside_the_weights_they_adapt(kind: str, tmp_path: Path) -> None:
    plain = causal_lm(kind, len(WORDS) + 3)
    weights = {name: value.clone() for name, value in plain.state_dict().items()}
    tokenizer = word_tokenizer(WORDS)
    for model in (
        ProjectorModel(adapted(plain), tokenizer, ProjectorConfig(DIM)),
        ClipCap(plain, tokenizer, ClipCapConfig(DIM)),
    ):
        if isinstance(model, ClipCap):
            model.lm = adapted(causal_lm(kind, len(WORDS) + 3))
            weights = None
        model.eval().save_pretrained(tmp_path / "m" / type(model).__name__)
        folder = tmp_path / "m" / type(model).__name__
        loaded = load_prefix_model(folder)
        assert loaded.generate(EMBEDDINGS) == model.generate(EMBEDDINGS)
        assert {n for n, p in loaded.lm.named_parameters() if p.requires_grad} == {
            n for n, p in model.lm.named_parameters() if p.requires_grad
        }
        if weights:
            bare = AutoModelForCausalLM.from_pretrained(folder / "language_model")
            assert bare.state_dict().keys() == weights.keys()
            assert all(torch.equal(bare.state_dict()[n], v) for n, v in weights.items())


def test_adapters_of_a_named_language_model(base: Path, tmp_path: Path) -> None:
    lm = adapted(AutoModelForCausalLM.from_pretrained(base))
    model = ProjectorModel(lm, word_tokenizer(WORDS), ProjectorConfig(DIM)).eval()
    model.save_pretrained(tmp_path / "m", language_model="reference")
    assert load_prefix_model(tmp_path / "m").generate(EMBEDDINGS) == model.generate(EMBEDDINGS)
    given = AutoModelForCausalLM.from_pretrained(base)
    loaded = ProjectorModel.from_pretrained(tmp_path / "m", lm=given)
    assert loaded.generate(EMBEDDINGS) == model.generate(EMBEDDINGS)
    with pytest.raises(
        PrefixModelError, match="the given language model already has some; give it"
    ):
        ProjectorModel.from_pretrained(tmp_path / "m", lm=lm)


def test_adapters_of_other_settings_are_refused(tmp_path: Path) -> None:
    projector("llama", lora=True).save_pretrained(tmp_path / "m")
    path = tmp_path / "m/language_model/adapter/adapter_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "r": 4}))
    with pytest.raises(PrefixModelError, match=r"has shape \[3, \d+\], expected \[4, \d+\]"):
        load_prefix_model(tmp_path / "m")


def test_peft_must_be_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    found = builtins.__import__

    def without(name: str, *args: Any, **kwargs: Any) -> Any:
        if name == "peft":
            raise ImportError("No module named 'peft'")
        return found(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(PrefixModelError, match=r"pip install 'regionlm\[lora\]'"):
        add_lora(causal_lm("llama", 9))


@pytest.mark.parametrize("settings", [{"rank": 0}, {"target_modules": ["nothing_such"]}])
def test_bad_adapter_settings(settings: dict) -> None:
    with pytest.raises(PrefixModelError, match="these LoRA settings can't be used: ") as error:
        add_lora(causal_lm("llama", 9), **settings)
    assert "\n" not in str(error.value)


# --- kinds of folders


def test_unknown_kinds_are_refused_with_the_known_ones(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"format": "llava"}')
    with pytest.raises(
        PrefixModelError,
        match="format 'llava', which is not a prefix model's; expected 'regionlm/clipc",
    ):
        load_prefix_model(tmp_path)
    with pytest.raises(PrefixModelError, match=r"missing file: .*config\.json"):
        load_prefix_model(tmp_path / ".." / tmp_path.name / "..")
    projector("llama").save_pretrained(tmp_path / "m")
    with pytest.raises(PrefixModelError, match=r"no prefix named 'adapted': .* projector m"):
        load_prefix_model(tmp_path / "m", prefix="adapted")
    with pytest.raises(PrefixModelError, match=r"config.json does not describe a ClipCap model"):
        ClipCap.from_pretrained(tmp_path / "m")


@pytest.mark.parametrize("part", ["projector", "tokenizer", "language_model"])
def test_metadata_must_be_there(tmp_path: Path, part: str) -> None:
    projector("llama").save_pretrained(tmp_path / "m")
    config = json.loads((tmp_path / "m/config.json").read_text())
    del config[part]
    (tmp_path / "m/config.json").write_text(json.dumps(config))
    with pytest.raises(PrefixModelError, match=f"lacks the settings under '{part}'"):
        load_prefix_model(tmp_path / "m")


# --- bundles


@pytest.fixture(scope="module")
def backbone() -> ClipViT:
    return RegionCaptioner.from_pretrained("mini", device="cpu").backbone


@pytest.mark.parametrize("lora", [False, True])
def test_a_bundle_holds_a_projector_model(backbone: ClipViT, tmp_path: Path, lora: bool) -> None:
    sizes = {"embedding_dim": backbone.dim, "encoder": backbone.name}
    captioner = RegionCaptioner(backbone, projector("llama", lora=lora, **sizes))
    captioner.save_pretrained(tmp_path / "bundle")
    loaded = RegionCaptioner.from_pretrained(tmp_path / "bundle", device="cpu", offline=True)
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 3), dtype=np.uint8)
    masks = np.zeros((2, 48, 64), bool)
    masks[0, 5:30, 5:30] = masks[1, 20:40, 30:60] = True
    question = {"embedder": "masked_crop", "max_new_tokens": 6}
    found = loaded.caption(Image.fromarray(pixels), masks, **question)
    expected = captioner.caption(Image.fromarray(pixels), masks, **question)
    assert [one.generation for one in found] == [one.generation for one in expected]
    regions = loaded.embed(Image.fromarray(pixels), masks, embedder="masked_crop")
    (answer,) = loaded.prefix_model.answer(
        ["compare <region1> with <region2>"], [loaded.prefix_embeddings(regions)]
    )
    assert answer.token_ids


def test_a_captioner_refuses_a_projector_of_another_space(backbone: ClipViT) -> None:
    from regionlm.errors import ModelError

    with pytest.raises(ModelError, match=f"embeddings of width {DIM}, the backbone"):
        RegionCaptioner(backbone, projector("llama"))
    other = projector("llama", embedding_dim=backbone.dim, encoder="ViT-X/ours")
    with pytest.raises(ModelError, match=f"trained on ViT-X/ours, the backbone is {backbone.name}"):
        RegionCaptioner(backbone, other)
