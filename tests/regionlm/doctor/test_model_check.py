"""What is said of models: sound, broken, of any kind."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import regionlm.doctor.model_check as checked
from prefix_models.lm.calling import Calling
from regionlm.doctor import Diagnosis, Row, examine
from regionlm.errors import InputError
from tests.tiny_llava import tiny_llava


def _rows(report: Diagnosis) -> dict[str, Row]:
    return {row.name: row for row in report.sections[-1].rows}


@pytest.fixture
def bundle(tiny_bundle: Path, tmp_path: Path) -> Path:
    """A copy of the tiny bundle, to be broken."""
    return Path(shutil.copytree(tiny_bundle, tmp_path / "bundle"))


def test_the_bundled_model_is_well() -> None:
    report = examine(offline=True, device="cpu")
    assert report.faults == [] and report.text().endswith("\nall is well")
    rows = _rows(report)
    assert rows["caption"].found == rows["caption"].expected == '"a fish on the sand"'
    assert rows["prefix model"].found == "ClipCap, prefix adapted (also zero-shot)"
    assert rows["language model"].found == "GPT2LMHeadModel, float32"
    assert rows["cache"].state == "ok" and rows["weights"].found == "finite"
    assert rows["joint space"].found == "128 dimensions"
    assert rows["input"].found == "192 x 192 pixels"


def test_another_bundle(bundle: Path) -> None:
    report = examine(bundle, offline=True, device="cpu")
    assert report.faults == []
    rows = _rows(report)
    assert rows["kind"].found == "bundle" and rows["patch"].found == "8 x 8 pixels"
    assert rows["caption"].expected == "" and rows["caption"].state == "ok"
    assert int(rows["parameters"].found.replace(",", "")) > 10_000


@pytest.mark.parametrize("source", ["mini-siglip", "regionlm/bundles/mini/backbone"])
def test_a_backbone_is_tried_on_a_region(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(__file__).parents[3])
    report = examine(source, offline=True, device="cpu")
    assert report.faults == []
    rows = _rows(report)
    assert rows["kind"].found == "backbone" and "prefix model" not in rows
    assert rows["gradient"].state == "ok" and 0.2 < float(rows["region"].found.split()[1]) <= 1


def test_a_llava(tmp_path: Path) -> None:
    model, processor = tiny_llava()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    report = examine(tmp_path, offline=True, device="cpu")
    assert report.faults == []
    rows = _rows(report)
    assert rows["kind"].found == "LLaVA" and rows["gradient"].state == "ok"
    assert rows["language model"].found.startswith("LlavaForConditionalGeneration")
    count = sum(parameter.numel() for parameter in model.parameters())
    assert rows["parameters"].found == f"{count:,}"


def test_a_model_that_cannot_be_loaded(bundle: Path) -> None:
    shutil.rmtree(bundle / "backbone")
    report = examine(bundle, offline=True)
    assert report.faults == [
        f"model failed: {bundle}: the bundle is incomplete, it has no folder backbone/"
    ]
    assert [section.name for section in report.sections][:2] == ["versions", "extras"]


def test_damaged_weights_are_named(bundle: Path) -> None:
    path = bundle / "prefix_model" / "mappers" / "default.safetensors"
    weights = {name: value.clone() for name, value in load_file(path).items()}
    name = sorted(weights)[0]
    weights[name].view(-1)[0] = torch.nan
    save_file(weights, path, {"format": "pt"})
    rows = _rows(examine(bundle, offline=True, device="cpu"))
    assert rows["weights"].state == "wrong" and name in rows["weights"].note
    assert rows["gradient"].state == "ok"


def test_one_check_that_fails_does_not_keep_others_from_being_made(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(captioner: object) -> None:
        raise RuntimeError("out of memory\n  at some place")

    monkeypatch.setattr(checked, "gradient_difference", lambda *_: torch.nan)
    monkeypatch.setattr(checked, "_weights", fail)
    report = examine(bundle, offline=True, device="cpu")
    assert report.faults == [
        "weights failed: RuntimeError: out of memory",
        "gradient within nan of autograd: expected within 1e-03",
    ]
    assert _rows(report)["caption"].state == "ok"


def test_a_bundled_model_that_says_something_else_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(checked, "_BOX", "96,2,157,75")  # the book beside it
    (fault,) = examine(offline=True, device="cpu").faults
    assert fault.startswith('caption "a book') and fault.endswith('expected "a fish on the sand"')


def test_a_language_model_without_a_cache_is_a_note(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checked, "calling_of", lambda lm: Calling(None, False, False))
    report = examine(bundle, offline=True, device="cpu")
    assert report.faults == []
    assert (
        "cache none: it reads the whole text again for each token, which is right but slow"
        in report.notes
    )
    assert _rows(report)["called"].found == "without positions, for scores of all positions"


def test_a_device_that_is_not_there_is_a_fault(bundle: Path) -> None:
    faults = examine(bundle, offline=True, device="cuda:99").faults
    assert faults and all("device 'cuda:99' was asked for" in fault for fault in faults)


@pytest.mark.parametrize("device", ["gpu", "cuda:", "cuda:-1", "mps:1", ""])
def test_what_is_no_device_is_refused(device: str) -> None:
    with pytest.raises(InputError, match="device: expected auto, cpu"):
        examine(device=device)
