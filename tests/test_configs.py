"""Every file in configs/train is run, at a small scale; those of mini together make a bundle."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
import yaml
from transformers import LlamaConfig, LlamaForCausalLM

from prefix_models import word_tokenizer
from regionlm import RegionCaptioner, RegionEncoder
from regionlm.cli.main import main as regionlm
from regionlm.pretrained.bundle import MINI
from training.first_hour.make import FOLDER, make_examples
from training.mini.__main__ import main
from training.world.names import words

ROOT = Path(__file__).parents[1]
CONFIGS = ROOT / "configs"
SMALL_PAIRS = [
    "--pairs.shards", "2", "--pairs.scenes", "3", "--recipe.steps", "4",
    "--recipe.batch_size", "2",
]  # fmt: skip
STAGES = (
    "[{steps: 1, batch: 4, size: 64, counts: [1.0], sides: [0.5, 0.9], patch_dropout: 0.5},"
    " {steps: 1, batch: 4, size: 192, negatives: 1}]"
)
SMALL_CLIP = ["--data.stages", STAGES, "--trainer.enable_progress_bar", "false"]
MINI_OVERRIDES = {
    "mini_clip": ("clip", "fit", SMALL_CLIP),
    "mini_siglip": ("clip", "fit", [*SMALL_CLIP, "--model.start", str(MINI / "backbone")]),
    "mini_decoder": ("decoder", None, SMALL_PAIRS),
    "mini_adapt": ("adapt", None, [*SMALL_PAIRS, "--inversion.steps", "2"]),
    "mini_bundle": ("bundle", None, []),
    "mini_siglip_bundle": ("bundle", None, []),
}
FIT = (
    "first_hour", "let_adapt", "global", "mix", "clipcap_coco", "clipcap_coco_original",
    "clipcap_transformer", "llava_projector", "llava_mini",
)  # fmt: skip


def _run(monkeypatch, name):
    step, sub, overrides = MINI_OVERRIDES[name]
    config = str(CONFIGS / "train" / f"{name}.yaml")
    argv = ["mini", step, *([sub] if sub else []), "--config", config, *overrides]
    monkeypatch.setattr(sys, "argv", argv)
    main()


def _export(monkeypatch, checkpoint, output):
    argv = ["mini", "export", "--checkpoint", str(checkpoint), "--output", output]
    monkeypatch.setattr(sys, "argv", argv)
    main()


def test_no_config_is_left_out():
    names = {path.stem for path in (CONFIGS / "train").rglob("*.yaml")}
    assert names == {*MINI_OVERRIDES, *FIT}


def test_configs_make_an_attention_pooled_bundle(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _run(monkeypatch, "mini_siglip")
    checkpoint = next(tmp_path.rglob("*.ckpt"))
    _export(monkeypatch, checkpoint, "runs/mini/mini_siglip")
    _run(monkeypatch, "mini_siglip_bundle")
    encoder = RegionEncoder.from_pretrained(tmp_path / "regionlm/bundles/mini-siglip")
    assert encoder.backbone.pooling == "attention"
    trained = torch.load(checkpoint, weights_only=True)["state_dict"]["clip.visual.attn_pool.query"]
    kept = encoder.backbone.model.visual.attn_pool.query
    torch.testing.assert_close(kept, trained.to(kept), atol=0, rtol=1e-3)


def test_configs_make_a_bundle(world, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _run(monkeypatch, "mini_clip")
    checkpoint = tmp_path / "runs/mini_clip/last.ckpt"
    if not checkpoint.exists():  # too few steps for the config's own interval
        checkpoint = next(tmp_path.rglob("*.ckpt"))
    _export(monkeypatch, checkpoint, "runs/mini/mini_clip")
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


@pytest.fixture
def language_model(tmp_path):
    """A tiny Llama with the world's words, in place of what a config takes from the hub."""
    tokenizer = word_tokenizer([*words(), "."])
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=16, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, max_position_embeddings=64, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    LlamaForCausalLM(config).save_pretrained(tmp_path / "lm")
    tokenizer.save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


def small(name, language_model):
    """The config at a small scale: bundled data and a tiny language model for what needs a hub."""
    config = yaml.safe_load((CONFIGS / "train" / f"{name}.yaml").read_text())
    recipe, start = config["recipe"], config["start"]
    recipe.update(batch_size=4)
    recipe.update({"epochs": 1} if "epochs" in recipe else {"steps": 3})
    config["trainer"] = {**config["trainer"], "accelerator": "cpu", "enable_progress_bar": False}
    config["trainer"].pop("devices", None)
    for part in ("data", "validation"):
        for one in config.get(part, []):
            one["limit"], one["workers"] = 8, 0
            if one["source"] == "manifest":
                one["options"]["path"] = str(ROOT / one["options"]["path"])
            else:
                write_source(one["source"], one["options"])
    if "bundle" not in start:
        start.update(backbone=str(MINI / "backbone"), language_model=str(language_model))
        start.pop("pretrained")
    return config


def write_source(name, options):
    """Put a few of the bundled examples where a config looks, in the format of its source."""
    said = [json.loads(line) for line in (FOLDER / "images.jsonl").read_text().splitlines()[:6]]
    if name == "coco_captions":
        images = [{"id": i, "file_name": f"COCO_{i:012d}.jpg"} for i in range(6)]
        annotations = [
            {"image_id": i % 6, "id": i, "caption": said[i % 6]["caption"] + "."} for i in range(12)
        ]
        _write(options["annotations"], {"images": images, "annotations": annotations})
        for i, one in enumerate(said):
            _copy(one, Path(options["images"]) / images[i]["file_name"])
    elif name == "visual_genome":
        root = Path(options["root"])
        box = {"x": -1, "y": 20, "width": 90, "height": 80}
        regions = [
            {"region_id": i, "image_id": i, "phrase": one["caption"], **box}
            for i, one in enumerate(said)
        ]
        images = [{"id": i, "regions": [region]} for i, region in enumerate(regions)]
        images[0]["regions"].append({**regions[0], "region_id": 99, "width": 0})
        _write(root / "region_descriptions.json", images)
        for i, one in enumerate(said):
            _copy(one, root / ("VG_100K" if i % 2 else "VG_100K_2") / f"{i}.jpg")
    else:
        captions = [
            {"image_id": str(i), "id": i, "caption": one["caption"] + ".", "clip_embedding": i}
            for i, one in enumerate(said)
        ]
        path = Path(options["path"])
        path.parent.mkdir(parents=True, exist_ok=True)
        dim = RegionCaptioner.from_pretrained("mini", device="cpu").backbone.dim
        embeddings = torch.randn(6, dim, generator=torch.Generator().manual_seed(0)).half()
        path.write_bytes(pickle.dumps({"clip_embedding": embeddings, "captions": captions}))


def _write(path, value):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(value))


def _copy(said, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(FOLDER / said["image"], path)


@pytest.mark.parametrize("name", FIT)
def test_train_configs_end_with_a_bundle(name, tmp_path, monkeypatch, language_model, capsys):
    monkeypatch.chdir(tmp_path)
    config = small(name, language_model)
    Path("small.yaml").write_text(yaml.safe_dump(config))
    assert regionlm(["train", "fit", "--config", "small.yaml"]) == 0, capsys.readouterr().err
    folder = Path(config["output"])
    captioner = RegionCaptioner.from_pretrained(folder / "bundle", device="cpu")
    assert captioner.backbone.dim == captioner.prefix_model.config.embedding_dim
    assert "library_name: regionlm" in captioner.card and str(tmp_path) not in captioner.card
    image = ROOT / "training/first_hour/images/0.jpg"
    argv = ["caption", str(image), "--box", "9,9,99,99", "--model", str(folder / "bundle")]
    assert regionlm([*argv, "--device", "cpu"]) == 0


def test_what_the_configs_take_from_the_hub_is_what_they_say(language_model, tmp_path, monkeypatch):
    """The scaled-down runs replace only sizes and hub names."""
    monkeypatch.chdir(tmp_path)
    for name in FIT:
        whole = yaml.safe_load((CONFIGS / "train" / f"{name}.yaml").read_text())
        reduced = small(name, language_model)
        assert whole.keys() == reduced.keys()
        assert [one["source"] for one in whole["data"]] == [
            one["source"] for one in reduced["data"]
        ]
        for key in ("trains", "lr", "schedule", "noise", "weight_decay", "clipcap_original"):
            assert whole["recipe"].get(key) == reduced["recipe"].get(key)
        assert whole["start"].get("options") == reduced["start"].get("options")


def test_first_hour_data_is_as_it_is_composed(world, tmp_path):
    """Same scenes as the committed command writes; its pictures need the real pictograms."""
    make_examples(tmp_path, scenes=4)
    for name in ("regions.jsonl", "images.jsonl"):
        shipped = (FOLDER / name).read_text().splitlines()
        for line, made in zip(shipped, (tmp_path / name).read_text().splitlines(), strict=False):
            said, expected = json.loads(line), json.loads(made)
            assert said["image"] == expected["image"]
            assert said.get("caption") == expected.get("caption")
    assert len(shipped) == 320 == len(list((FOLDER / "images").glob("*.jpg")))
