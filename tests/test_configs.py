"""Every file in configs/train is run, at a small scale: together they make a whole bundle."""

import shutil
import sys
from pathlib import Path

import pytest
import yaml

from regionlm import RegionCaptioner
from training.mini.__main__ import main

CONFIGS = Path(__file__).parents[1] / "configs"
SMALL_PAIRS = ["--pairs.shards", "2", "--pairs.scenes", "3", "--steps", "4", "--batch_size", "2"]
STAGES = (
    "[{steps: 1, batch: 4, size: 64, counts: [1.0], sides: [0.5, 0.9], patch_dropout: 0.5},"
    " {steps: 1, batch: 4, size: 192, negatives: 1}]"
)
OVERRIDES = {
    "mini_clip": (
        "clip",
        "fit",
        ["--data.stages", STAGES, "--trainer.enable_progress_bar", "false"],
    ),
    "mini_decoder": ("decoder", None, SMALL_PAIRS),
    "mini_adapt": ("adapt", None, [*SMALL_PAIRS, "--inversion.steps", "2"]),
    "mini_bundle": ("bundle", None, []),
}


def _run(monkeypatch, name):
    step, sub, overrides = OVERRIDES[name]
    config = str(CONFIGS / "train" / f"{name}.yaml")
    argv = ["mini", step, *([sub] if sub else []), "--config", config, *overrides]
    monkeypatch.setattr(sys, "argv", argv)
    main()


def test_no_config_is_left_out():
    assert {path.stem for path in (CONFIGS / "train").rglob("*.yaml")} == set(OVERRIDES)


def test_configs_make_a_bundle(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _run(monkeypatch, "mini_clip")
    checkpoint = tmp_path / "runs/mini_clip/last.ckpt"
    if not checkpoint.exists():  # too few steps for the config's own interval
        checkpoint = next(tmp_path.rglob("*.ckpt"))
    argv = ["mini", "export", "--checkpoint", str(checkpoint), "--output", "runs/mini/mini_clip"]
    monkeypatch.setattr(sys, "argv", argv)
    main()
    for name in ("mini_decoder", "mini_adapt", "mini_bundle"):
        _run(monkeypatch, name)
    bundle = yaml.safe_load((CONFIGS / "train/mini_bundle.yaml").read_text())["output"]
    captioner = RegionCaptioner.from_pretrained(tmp_path / bundle)
    assert sorted(captioner.prefix_model.prefixes) == ["adapted", "zero-shot"]
    assert captioner.prefix_model.prefix_name == "adapted"
    # A second run goes on from what is there: with everything in place it only saves again.
    shutil.rmtree(tmp_path / "runs/mini/decoder")
    _run(monkeypatch, "mini_decoder")
    assert (tmp_path / "runs/mini/decoder/config.json").exists()


@pytest.mark.parametrize("setting", ["size", "lr", "steps", "alpha"])
def test_mini_is_adapted_to_the_inversion_it_ships_with(setting):
    adapt = yaml.safe_load((CONFIGS / "train/mini_adapt.yaml").read_text())["inversion"]
    bundle = yaml.safe_load((CONFIGS / "train/mini_bundle.yaml").read_text())["inversion"]
    assert adapt[setting] == bundle[setting]
