"""Bad models and bundles, through the command line."""

import json
import pickle
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

Refused = Callable[..., str]


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle to damage."""
    return shutil.copytree(tiny_bundle, tmp_path / "bundle")


@pytest.fixture
def refused_model(image: Path, refused: Refused) -> Refused:
    def run(model: object) -> str:
        query = ["caption", image, "--box", "0,0,9,9", "--heatmap", "heat.png"]
        return refused(*query, "--model", model, "--offline")

    return run


def test_unknown_model(refused_model: Refused) -> None:
    message = refused_model("no-such-model")
    assert "'no-such-model'" in message and "expected mini" in message


def test_hub_model_offline(refused_model: Refused) -> None:
    assert "nobody/no-such-model" in refused_model("nobody/no-such-model")


def test_folder_that_is_no_bundle(tmp_path: Path, refused_model: Refused) -> None:
    (tmp_path / "stuff").mkdir()
    assert "stuff" in refused_model(tmp_path / "stuff")
    assert f"missing file: {tmp_path}/config.json" in refused_model(".")


PARTS = [
    "config.json",
    "backbone/open_clip_config.json",
    "backbone/open_clip_model.safetensors",
    "prefix_model/config.json",
    "prefix_model/mappers/default.safetensors",
    "prefix_model/language_model/config.json",
    "prefix_model/language_model/model.safetensors",
    "prefix_model/language_model/tokenizer.json",
]


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("damage", ["missing", "empty", "truncated"])
def test_damaged_bundle(part: str, damage: str, bundle: Path, refused_model: Refused) -> None:
    file = bundle / part
    whole = file.read_bytes()
    file.unlink()
    if damage != "missing":
        file.write_bytes(whole[: len(whole) // 2] if damage == "truncated" else b"")
    assert str(bundle) in refused_model(bundle)


def test_missing_backbone(bundle: Path, refused_model: Refused) -> None:
    shutil.rmtree(bundle / "backbone")
    assert "backbone" in refused_model(bundle)


@pytest.mark.parametrize(
    "part", ["backbone/open_clip_model.safetensors", "prefix_model/mappers/default.safetensors"]
)
def test_weights_of_another_width(part: str, bundle: Path, refused_model: Refused) -> None:
    from safetensors.torch import load, save_file

    weights = load((bundle / part).read_bytes())  # written over below
    save_file(
        {name: tensor[..., :-1].contiguous() for name, tensor in weights.items() if tensor.ndim},
        bundle / part,
    )
    assert str(bundle) in refused_model(bundle)


def test_prefix_model_of_another_width(bundle: Path, refused_model: Refused) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    from prefix_models.clipcap.config import ClipCapConfig
    from prefix_models.clipcap.model import ClipCap
    from prefix_models.lm.word_tokenizer import word_tokenizer

    tokenizer = word_tokenizer(["dog"])
    sizes = {"n_positions": 40, "n_embd": 16, "n_layer": 1, "n_head": 2}
    lm = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), eos_token_id=2, **sizes))
    ClipCap(lm, tokenizer, ClipCapConfig(24)).save_pretrained(bundle / "prefix_model")
    message = refused_model(bundle)
    assert "24" in message and "16" in message


@pytest.mark.parametrize("claim", [("patch_size", [16, 16]), ("mean", [0.4] * 3), ("dim", 24)])
def test_parts_of_different_bundles(
    claim: tuple[str, object], bundle: Path, refused_model: Refused
) -> None:
    config = json.loads((bundle / "config.json").read_text())
    config["backbone"][claim[0]] = claim[1]
    (bundle / "config.json").write_text(json.dumps(config))
    assert claim[0] in refused_model(bundle)


class _Malicious:
    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("writer", ["pickle", "torch"])
def test_pickled_code_is_not_run(
    writer: str, bundle: Path, tmp_path: Path, refused_model: Refused
) -> None:
    import torch

    weights = bundle / "backbone/open_clip_model.safetensors"
    weights.unlink()
    state = {"logit_scale": _Malicious(tmp_path / "executed")}
    file = weights.with_name("pytorch_model.bin")
    if writer == "torch":
        torch.save(state, file)
    else:
        file.write_bytes(pickle.dumps(state))
    assert str(file) in refused_model(bundle)
    assert not (tmp_path / "executed").exists()


def test_a_mistyped_folder_is_not_sought_on_the_hub(refused_model: Refused) -> None:
    for name in ("./no-such-folder", "../none", "~/none"):
        assert f"there is no folder '{name}'" in refused_model(name)
