"""What training starts from, and that what it ends with has the trained weights."""

import copy
from pathlib import Path

import pytest
import torch

from regionlm import RegionCaptioner
from regionlm.errors import InputError
from training.fit_settings import Fit, PairSet, Recipe, Start
from training.pipeline import fit
from training.start import load_start

MANIFEST = Path(__file__).parents[2] / "training/first_hour/images.jsonl"
PROJECTOR = {"kind": "projector", "options": {"prompt": "<region>", "template": "{prompt}"}}
MINI = {"bundle": "mini", "prefix": "zero-shot"}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def _fit(output, start, **recipe):
    """Train for two steps; return the prefix model as trained, and as its bundle has it."""
    data = [PairSet("manifest", {"path": str(MANIFEST)}, embedder="cls", limit=4)]
    trainer = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
    recipe = Recipe(**{"steps": 2, "batch_size": 4, "warmup": 0, "lr": 1e-3, **recipe})
    captioner = fit(Fit(Path(output), data, start, recipe, trainer=trainer))
    return captioner.prefix_model, _read(f"{output}/bundle")


def _read(bundle="mini"):
    return RegionCaptioner.from_pretrained(bundle, device="cpu").prefix_model


def _same(a, b):
    a, b = a.state_dict(), b.state_dict()
    return a.keys() == b.keys() and all(value.equal(b[name]) for name, value in a.items())


# --- a language model that the bundle only names


def test_a_trained_language_model_can_not_be_left_out():
    start = Start("mini", **PROJECTOR, store_language_model=False)
    with pytest.raises(InputError, match=r"start\.store_language_model: expected true .* all"):
        _fit("run", start, trains="all")
    assert not list(Path().iterdir())


def test_a_trained_language_model_is_stored_where_the_start_only_names_it():
    named, _ = _fit("named", Start("mini", **PROJECTOR, store_language_model=False))
    assert named.reference is not None and _same(named.lm, _read().lm)
    trained, found = _fit("all", Start("named/bundle"), trains="all")
    assert not _same(trained.lm, named.lm)
    assert _same(found, trained) and found.reference is None


def test_adapters_of_a_language_model_that_is_only_named():
    start = Start("mini", **PROJECTOR, store_language_model=False)
    trained, found = _fit("lora", start, trains="lora", lora={"rank": 2})
    assert _same(found, trained) and found.reference is not None
    again, found = _fit("again", Start("lora/bundle"), trains="lora")
    assert not _same(again, trained)
    assert _same(found, again) and found.reference is not None


# --- half precision


def _half_bundle(dtype, lora=False):
    captioner = RegionCaptioner.from_pretrained("mini", device="cpu")
    if lora:
        _, captioner.prefix_model = load_start(Start(**MINI), Recipe(trains="lora"))
    captioner.prefix_model.to(dtype)
    captioner.save_pretrained("half")
    return Start("half", "zero-shot")


def _moved(before, after):
    """Share of the numbers that are other ones."""
    before, after = dict(before.named_parameters()), dict(after.named_parameters())
    changed = [(value != after[name]).flatten() for name, value in before.items()]
    return torch.cat(changed).float().mean().item()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("trains", ["mapper", "all"])
def test_a_bundle_in_half_precision_is_trained_in_float32(dtype, trains):
    start = _half_bundle(dtype)
    before = copy.deepcopy(_read("half").with_prefix("zero-shot"))
    assert before.lm.dtype == dtype
    trained, found = _fit("run", start, trains=trains, lr=1e-5)
    assert _same(found, trained)
    assert {p.dtype for p in found.mapper.parameters()} == {torch.float32}
    assert _moved(before.mapper, found.mapper) > 0.9
    if trains == "all":
        assert {p.dtype for p in found.lm.parameters()} == {torch.float32}
        assert _moved(before.lm, found.lm) > 0.9
    else:
        assert found.lm.dtype == dtype and _same(found.lm, before.lm)
    other = found.mappers["adapted"]
    assert {p.dtype for p in other.parameters()} == {dtype}
    assert _same(other, before.mappers["adapted"])


def test_adapters_in_half_precision_are_trained_in_float32():
    start = _half_bundle(torch.bfloat16, lora=True)
    _, model = load_start(start, Recipe(trains="lora"))
    dtypes = {name: p.dtype for name, p in model.lm.named_parameters()}
    assert len(dtypes) > 2
    for name, dtype in dtypes.items():
        assert dtype == (torch.float32 if "lora_" in name else torch.bfloat16), name
    trained, found = _fit("run", start, trains="lora", lr=1e-5)
    assert _same(found, trained)
    # Not lora_B, which starts at zero, where a small step vanishes in no precision.
    before = _read("half")
    moved = [
        _moved(a, b)
        for (name, a), (_, b) in zip(
            before.lm.named_modules(), found.lm.named_modules(), strict=True
        )
        if name.endswith("lora_A.default")
    ]
    assert min(moved) > 0.9
