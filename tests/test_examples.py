"""The scripts of examples/ do what they say, and stay short."""

import runpy

import pytest

from regionlm import RegionCaptioner
from tests.documents import ROOT

SCRIPTS = sorted((ROOT / "examples").glob("*.py"))


def _main(name):
    return runpy.run_path(str(ROOT / "examples" / f"{name}.py"))["main"]


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_it_is_short(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < 50


def test_caption_folder(capsys):
    assert _main("caption_folder")(ROOT / "examples") == 3
    rows = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert {row[0] for row in rows} == {"grass.png", "sand.png", "snow.png"}
    sand = " ".join(row[2] for row in rows if row[0] == "sand.png")
    assert all(name in sand for name in ("fox", "fish", "book"))


def test_own_language_model(tmp_path, capsys):
    _main("own_language_model")(None, tmp_path / "mine")
    assert len(capsys.readouterr().out.splitlines()) == 3
    assert RegionCaptioner.from_pretrained(tmp_path / "mine").prefix_model.lm.config.n_embd == 32


def test_train_on_regions(tmp_path, capsys):
    main, manifest = _main("train_on_regions"), ROOT / "training/first_hour/regions.jsonl"
    captioner = main(manifest, tmp_path / "run", steps=2, limit=40)
    assert captioner.prefix_model.prefix_name == "mine"
    assert RegionCaptioner.from_pretrained(tmp_path / "run/bundle").name
    assert len(capsys.readouterr().out.splitlines()) == 4
