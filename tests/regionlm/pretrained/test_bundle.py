"""Bundles: round trips, and every way a folder can be wrong."""

import json
import os
import shutil
import stat
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from prefix_models.errors import PrefixModelError
from regionlm import ModelError, RegionCaptioner
from regionlm.backbones.saving import save_backbone
from regionlm.files import save_tensors
from regionlm.pretrained.bundle import MINI
from regionlm.pretrained.presets import PRESETS

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def folder(tmp_path):
    return Path(shutil.copytree(MINI, tmp_path / "bundle"))


def _edit(path, change):
    config = json.loads(path.read_text())
    change(config)
    path.write_text(json.dumps(config))


def test_mini_ships_and_is_small():
    files = [path for path in MINI.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 40e6
    assert {path.suffix for path in files} <= {".safetensors", ".json"}


def test_round_trip(tmp_path):
    mini = RegionCaptioner.from_pretrained("mini")
    mini.save_pretrained(tmp_path / "copy")
    copy = RegionCaptioner.from_pretrained(tmp_path / "copy")
    arguments = (EXAMPLES / "snow.png", EXAMPLES / "snow-labels.png")
    for a, b in zip(mini.caption(*arguments), copy.caption(*arguments), strict=True):
        assert a.text == b.text and torch.equal(a.embedding, b.embedding)
    assert mini.match(*arguments, ["cheese"]) == copy.match(*arguments, ["cheese"])
    assert copy.backbone.inversion_defaults == mini.backbone.inversion_defaults
    copy.save_pretrained(tmp_path / "copy")  # a bundle may be replaced
    assert [p.name for p in tmp_path.iterdir()] == ["copy"]


class Loud(RegionCaptioner):
    """Somebody's own."""

    saved = 0

    def save_pretrained(self, folder):
        self.saved += 1
        super().save_pretrained(folder)


def test_a_subclass_loads_as_such_with_its_card(tmp_path):
    loud = Loud.from_pretrained("mini", device="cpu")
    assert type(loud) is Loud and loud.name == "mini" and loud.card is None
    loud.card = "# Loud"
    loud.save_pretrained(tmp_path / "loud")
    again = Loud.from_pretrained(tmp_path / "loud", device="cpu")
    assert type(again) is Loud and again.card == "# Loud" and loud.saved == 1


def _nudge(folder):
    path = folder / "open_clip_model.safetensors"
    weights = {name: value.clone() for name, value in load_file(path).items()}
    weights["visual.class_embedding"][0] += 1
    save_file(weights, path)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (_nudge, "the weight visual.class_embedding is not the one in memory"),
        (lambda folder: (folder / "open_clip_model.safetensors").unlink(), "lacks weights"),
        (lambda folder: (folder / "open_clip_config.json").unlink(), "expected open_clip_config"),
    ],
)
def test_a_backbone_that_was_written_wrongly_is_seen(tmp_path, monkeypatch, spoil, said):
    mini = RegionCaptioner.from_pretrained("mini", device="cpu")
    mini.save_pretrained(tmp_path / "m")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}

    def save_and_spoil(backbone, folder):
        save_backbone(backbone, folder)
        spoil(folder)

    monkeypatch.setattr("regionlm.backbones.saving.save_backbone", save_and_spoil)
    with pytest.raises(ModelError, match=f"is left as it was, .* {said}") as raised:
        mini.save_pretrained(tmp_path / "m")
    assert "\n" not in str(raised.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_files_have_the_mode_that_the_umask_gives(tmp_path, umask):
    """safetensors makes its files 0600 whatever the umask."""
    mini, before = RegionCaptioner.from_pretrained("mini"), os.umask(umask)
    try:
        mini.save_pretrained(tmp_path / "bundle")
        save_backbone(mini.backbone, tmp_path / "backbone")
        save_tensors(tmp_path / "let.safetensors", {"a": torch.zeros(2)})
    finally:
        os.umask(before)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert sum(path.suffix == ".safetensors" for path in files) >= 6
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o666 & ~umask}


def test_other_folders_are_not_overwritten(tmp_path):
    (tmp_path / "diary.txt").write_text("dear diary")
    with pytest.raises(ModelError, match="no bundle"):
        RegionCaptioner.from_pretrained("mini").save_pretrained(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["diary.txt"]


def test_models_of_another_kind_are_not_overwritten(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "gpt2"}')
    (tmp_path / "model.safetensors").write_bytes(b"somebody's weights")
    with pytest.raises(ModelError, match="no bundle"):
        RegionCaptioner.from_pretrained("mini").save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == b"somebody's weights"


def test_failed_save_keeps_the_old_bundle(folder, monkeypatch):
    mini = RegionCaptioner.from_pretrained("mini")
    before = {path: path.read_bytes() for path in folder.rglob("*.safetensors")}
    rename = Path.rename

    def full(path, target):
        if target == folder and not path.name.endswith(".old"):
            raise OSError("No space left on device")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", full)
    with pytest.raises(ModelError, match="cannot write"):
        mini.save_pretrained(folder)
    assert {path: path.read_bytes() for path in folder.rglob("*.safetensors")} == before
    assert [path.name for path in folder.parent.iterdir()] == [folder.name]


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "backbone/open_clip_config.json",
        "backbone/open_clip_model.safetensors",
        "backbone/tokenizer.json",
        "backbone/tokenizer_config.json",
        "prefix_model/config.json",
        "prefix_model/language_model/model.safetensors",
        "prefix_model/language_model/tokenizer.json",
        "prefix_model/mappers/adapted.safetensors",
    ],
)
def test_missing_file_is_named(folder, file):
    (folder / file).unlink()
    with pytest.raises((ModelError, PrefixModelError), match=Path(file).name):
        RegionCaptioner.from_pretrained(folder)


@pytest.mark.parametrize(
    "file",
    [
        "config.json",
        "backbone/open_clip_model.safetensors",
        "prefix_model/language_model/model.safetensors",
        "prefix_model/mappers/adapted.safetensors",
    ],
)
def test_truncated_file_is_named(folder, file):
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[: len(data) // 2])
    with pytest.raises((ModelError, PrefixModelError), match=Path(file).stem) as error:
        RegionCaptioner.from_pretrained(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["backbone"].update(dim=64), "dim 64"),
        (lambda c: c["backbone"].update(mean=[0.5, 0.5, 0.5]), "mean"),
        (lambda c: c["backbone"].update(name="ViT-B-32"), "trained on"),
        (lambda c: c.update(format="other"), "format"),
        (lambda c: c.update(format_version=99), "99"),
        (lambda c: c.pop("inversion"), "inversion"),
    ],
)
def test_parts_are_cross_checked(folder, change, message):
    _edit(folder / "config.json", change)
    with pytest.raises(ModelError, match=message):
        RegionCaptioner.from_pretrained(folder)


def test_prefix_model_of_another_width(folder):
    _edit(folder / "prefix_model/config.json", lambda c: c["clipcap"].update(embedding_dim=64))
    with pytest.raises(PrefixModelError, match="64"):
        RegionCaptioner.from_pretrained(folder)


@pytest.mark.parametrize("name", ["nonsense", "no/such/folder", ""])
def test_unknown_model(name):
    with pytest.raises(ModelError, match="mini"):
        RegionCaptioner.from_pretrained(name)


def test_hub_id_offline(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(ModelError, match="local hub cache"):
        RegionCaptioner.from_pretrained("nobody/nothing-here", offline=True)


@pytest.mark.parametrize("name", PRESETS)
def test_preset_without_files_says_where_to_put_them(name, tmp_path, monkeypatch):
    monkeypatch.setenv("REGIONLM_MODELS", str(tmp_path))
    with pytest.raises(ModelError) as error:
        RegionCaptioner.from_pretrained(name, offline=True)
    assert str(tmp_path / name / PRESETS[name].file) in str(error.value)
