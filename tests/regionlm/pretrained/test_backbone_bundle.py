"""Bundles without a prefix model: they embed, and say so when asked for captions."""

import json
from pathlib import Path

import pytest
import torch

from regionlm import RegionCaptioner, RegionEncoder
from regionlm.cli.main import main
from regionlm.datasets import open_dataset
from regionlm.errors import ModelError
from regionlm.pretrained import sources
from regionlm.pretrained.bundle import MINI, SHIPPED, write_backbone_bundle
from training.mini.assemble import make_bundle

EXAMPLES = Path(__file__).parents[3] / "examples"
INVERSION = {"steps": 3, "lr": 0.5, "alpha": 0.0, "size": 96}


@pytest.fixture
def folder(tmp_path):
    make_bundle(MINI / "backbone", tmp_path / "small", INVERSION, name="small")
    return tmp_path / "small"


def test_it_embeds_with_its_own_defaults(folder):
    encoder = RegionEncoder.from_pretrained(folder, device="cpu")
    assert encoder.backbone.inversion_defaults == INVERSION
    assert sorted(path.name for path in folder.iterdir()) == ["backbone", "config.json"]
    assert json.loads((folder / "config.json").read_text())["name"] == "small"


def test_half_precision_weights_are_read_in_single_precision(folder):
    encoder = RegionEncoder.from_pretrained(folder, device="cpu")
    mini = RegionEncoder.from_pretrained("mini", device="cpu")
    for name, value in encoder.backbone.model.state_dict().items():
        assert value.dtype == torch.float32
        assert torch.equal(value, mini.backbone.model.state_dict()[name].half().float()), name
    halved = (folder / "backbone/open_clip_model.safetensors").stat().st_size
    assert halved < 0.51 * (MINI / "backbone/open_clip_model.safetensors").stat().st_size


def test_captions_are_refused_in_one_line(folder, tmp_path, monkeypatch, capsys):
    with pytest.raises(ModelError, match="no prefix_model/, so it writes no captions"):
        RegionCaptioner.from_pretrained(folder)
    monkeypatch.setitem(sources.SHIPPED, "small", folder)
    with pytest.raises(ModelError, match=r"^small: the bundle has no prefix_model/"):
        RegionCaptioner.from_pretrained("small")
    with pytest.raises(ModelError, match="expected mini, clipcap-coco"):
        RegionCaptioner.from_pretrained("nothing")
    with pytest.raises(ModelError, match="expected mini, mini-siglip, small, clipcap-coco"):
        RegionEncoder.from_pretrained("nothing")
    image, mask = (str(EXAMPLES / name) for name in ("sand.png", "sand-fox.png"))
    assert main(["caption", image, "--mask", mask, "--model", "small"]) == 2
    assert "use it with match, embed or explain" in capsys.readouterr().err
    output = str(tmp_path / "vectors.safetensors")
    assert main(["embed", image, "--mask", mask, "--model", "small", "--output", output]) == 0


def test_mini_siglip_ships_is_small_and_knows_regions():
    files = [path for path in SHIPPED["mini-siglip"].rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 7e6
    encoder = RegionEncoder.from_pretrained("mini-siglip", device="cpu", offline=True)
    assert encoder.backbone.pooling == "attention"
    dataset = open_dataset("mini", None, limit=10)
    found = []
    for number in range(len(dataset)):
        sample = dataset[number]
        matches = encoder.match(sample.image, sample.masks, list(sample.texts))
        best = [torch.tensor(match.similarities).argmax().item() for match in matches]
        found += [one == i for i, one in enumerate(best)]
    assert sum(found) / len(found) > 0.85  # a third is chance


def test_another_kind_of_folder_is_not_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    backbone = RegionEncoder.from_pretrained("mini", device="cpu").backbone
    with pytest.raises(ModelError, match="something other than a bundle"):
        write_backbone_bundle(backbone, "small", tmp_path)
