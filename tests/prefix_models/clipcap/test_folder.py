import json
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, load_file, save_file

from prefix_models import ClipCap, PrefixModelError, word_tokenizer


@pytest.fixture
def saved(model: ClipCap, tmp_path: Path) -> Path:
    model.save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def fails(folder: Path, message: str, **options: object) -> None:
    with pytest.raises(PrefixModelError, match=message) as error:
        ClipCap.from_pretrained(folder, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_round_trip_is_bit_equal(
    build: Callable[..., ClipCap], embeddings: torch.Tensor, tmp_path: Path, dtype: torch.dtype
) -> None:
    model = build(normalize_input=True, encoder="x/y", prompt="a", stop="period").to(dtype)
    adapted = model.add_prefix("adapted")
    with torch.no_grad():
        adapted.mapper.outer.bias += 1
    adapted.save_pretrained(tmp_path / "a" / "m")
    loaded = ClipCap.from_pretrained(tmp_path / "a" / "m")
    assert loaded.config == model.config and not loaded.training
    assert (loaded.prefix_name, loaded.prefixes) == ("adapted", ["default", "adapted"])
    expected, found = model.state_dict(), loaded.state_dict()
    assert expected.keys() == found.keys()
    for name, tensor in expected.items():
        assert found[name].dtype == dtype and torch.equal(found[name], tensor), name
    assert loaded.lm.lm_head.weight is loaded.lm.transformer.wte.weight
    assert loaded.generate(embeddings) == adapted.generate(embeddings)
    plain = ClipCap.from_pretrained(tmp_path / "a" / "m", prefix="default")
    assert plain.generate(embeddings) == model.generate(embeddings)
    assert loaded.decode([3, 4, 9]) == model.decode([3, 4, 9])
    assert all(parameter.requires_grad for parameter in loaded.parameters())


def test_a_subclass_loads_as_such(saved: Path) -> None:
    class Mine(ClipCap):
        pass

    assert type(Mine.from_pretrained(saved)) is Mine
    assert type(Mine.from_pretrained(saved, prefix="default")) is Mine


def test_layout(saved: Path) -> None:
    files = sorted(str(file.relative_to(saved)) for file in saved.rglob("*") if file.is_file())
    assert {"config.json", "language_model/model.safetensors", "mappers/default.safetensors"} <= {
        *files
    }
    assert not [file for file in files if file.endswith((".bin", ".pt", ".pkl"))]
    # Tied weights are stored once.
    assert "lm_head.weight" not in load_file(saved / "language_model/model.safetensors")
    assert sorted(os.listdir(saved.parent)) == ["m"]


def test_loading_is_silent_quick_offline_and_leaves_rng(
    saved: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("network used")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    state = torch.get_rng_state()
    capfd.readouterr()
    start = time.process_time()
    model = ClipCap.from_pretrained(saved)
    assert time.process_time() - start < 5
    model.save_pretrained(saved)
    assert torch.equal(torch.get_rng_state(), state)
    captured = capfd.readouterr()
    assert captured.out == captured.err == ""


def test_dtype_option(saved: Path) -> None:
    model = ClipCap.from_pretrained(saved, dtype=torch.float64)
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float64}


def test_saving_replaces_a_model_but_nothing_else(model: ClipCap, saved: Path) -> None:
    model.add_prefix("more").save_pretrained(saved)
    assert ClipCap.from_pretrained(saved).prefix_name == "more"
    other = saved.parent / "photos"
    other.mkdir()
    (other / "config.json").write_text('{"mine": 1}')
    with pytest.raises(PrefixModelError, match="holds something other than a ClipCap model"):
        model.save_pretrained(other)
    assert os.listdir(other) == ["config.json"]
    with pytest.raises(PrefixModelError, match="is a file"):
        model.save_pretrained(other / "config.json")
    empty = saved.parent / "empty"
    empty.mkdir()
    model.save_pretrained(empty)
    assert ClipCap.from_pretrained(empty).prefixes == ["default", "more"]


def test_a_failed_save_leaves_the_old_model_and_no_rest(
    model: ClipCap, saved: Path, monkeypatch: pytest.MonkeyPatch, embeddings: torch.Tensor
) -> None:
    expected = model.generate(embeddings)

    def full(*args: object, **kwargs: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(model.tokenizer, "save_pretrained", full)
    with pytest.raises(PrefixModelError, match=r"cannot write .*m: No space left"):
        model.save_pretrained(saved)
    with pytest.raises(PrefixModelError, match="cannot write"):
        model.save_pretrained(saved.parent / "new")
    assert os.listdir(saved.parent) == ["m"]
    assert ClipCap.from_pretrained(saved).generate(embeddings) == expected


@pytest.mark.parametrize("file", [
    "config.json",
    "language_model/config.json",
    "language_model/model.safetensors",
    "language_model/tokenizer.json",
    "mappers/default.safetensors",
])  # fmt: skip
def test_missing_file_is_named(saved: Path, file: str) -> None:
    (saved / file).unlink()
    fails(saved, f"missing file: .*{file}")


def test_missing_folder(tmp_path: Path) -> None:
    fails(tmp_path / "nowhere", "no such folder: .*nowhere")


@pytest.mark.parametrize("file", [
    "language_model/model.safetensors", "mappers/default.safetensors",
])  # fmt: skip
@pytest.mark.parametrize("keep", [0, 5, 0.5, 0.99])
def test_truncated_weights(saved: Path, file: str, keep: float) -> None:
    data = (saved / file).read_bytes()
    (saved / file).write_bytes(data[: int(keep * len(data)) if keep < 1 else int(keep)])
    fails(saved, "cannot read the language model|damaged or not a safetensors file")


@pytest.mark.parametrize("file", [
    "config.json", "language_model/config.json", "language_model/tokenizer.json",
])  # fmt: skip
@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 1}'])
def test_damaged_json(saved: Path, file: str, text: str) -> None:
    (saved / file).write_text(text)
    fails(saved, "not valid JSON|does not describe|cannot read the (language model|tokenizer)")


def test_embedding_width_is_cross_checked(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    edit(saved / "config.json", clipcap={**config["clipcap"], "embedding_dim": 20})
    fails(saved, r"inner\.weight has shape \[32, 12\], the model's settings need \[32, 20\]")


def test_prefix_length_is_cross_checked(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    settings = {**config["clipcap"], "prefix_length": 5, "mapper_width": 32}
    edit(saved / "config.json", clipcap=settings)
    fails(saved, r"outer\.(weight|bias) has shape \[64.*\], the model's settings need \[80")
    edit(saved / "config.json", clipcap={**settings, "prefix_length": 40})
    fails(saved, "prefix and prompt take 40 positions, the language model has 40")


def test_tokenizer_is_cross_checked(saved: Path) -> None:
    word_tokenizer(["a", "cat"]).save_pretrained(saved / "language_model")
    fails(saved, r"another tokenizer \(tokens 19\) than the one here \(tokens 5\)")


def test_folders_from_before_such_metadata_are_read(saved: Path, embeddings: torch.Tensor) -> None:
    expected = ClipCap.from_pretrained(saved).generate(embeddings)
    config = json.loads((saved / "config.json").read_text())
    del config["tokenizer"], config["language_model"]
    (saved / "config.json").write_text(json.dumps(config))
    assert ClipCap.from_pretrained(saved).generate(embeddings) == expected
    word_tokenizer([f"word{i}" for i in range(30)]).save_pretrained(saved / "language_model")
    fails(saved, "tokenizer knows 33 tokens, the language model 19")


def test_language_model_sizes_are_cross_checked(saved: Path) -> None:
    edit(saved / "language_model/config.json", n_positions=50)
    fails(saved, r"wpe\.weight has shape \[40, 16\], config\.json needs \[50, 16\]")
    edit(saved / "language_model/config.json", n_positions=40, n_layer=3)
    fails(saved, r"does not fit config\.json: missing .*h\.2\.")
    edit(saved / "language_model/config.json", n_layer=1)
    fails(saved, r"does not fit config\.json: missing nothing, unexpected .*h\.1\.")


def test_mapper_names_are_strict(saved: Path) -> None:
    path = saved / "mappers/default.safetensors"
    weights = load(path.read_bytes())  # written over below
    weights["extra"] = weights.pop("inner.bias").clone()
    save_file(weights, path)
    fails(saved, r"default\.safetensors does not fit .* missing inner\.bias, unexpected extra")


def test_prefix_and_device_must_exist(saved: Path) -> None:
    fails(saved, "no prefix named 'adapted'; this model has default", prefix="adapted")
    for device in ("tpu9", "cuda:99", "hip"):
        fails(saved, f"^device '{device}' can't be used .{{10,120}}; use 'cpu', or", device=device)
    fails(saved, "device 'meta' holds no weights", device="meta")


def test_config_values_are_checked(saved: Path) -> None:
    edit(saved / "config.json", format_version=2)
    fails(saved, "format version 2, this version of regionlm reads 1; update")
    edit(saved / "config.json", format_version=1, default_prefix="x")
    fails(saved, r"default_prefix 'x' is not among \['default'\]")
    edit(saved / "config.json", prefixes=["../../x"], default_prefix="../../x")
    fails(saved, r"prefix: expected a name of letters, digits, '-' and '_', found '\.\./\.\./x'")
    edit(saved / "config.json", prefixes=["default"], default_prefix="default", clipcap=[])
    fails(saved, "lacks the settings under 'clipcap'")
