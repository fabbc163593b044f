"""`regionlm train` from the command line, on the bundled examples and the bundled model."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from prefix_models import ClipCap, ProjectorModel
from regionlm import RegionCaptioner
from regionlm.cli.main import main
from regionlm.errors import InputError, ModelError
from training.curve import read_curve

from .tiny import tiny_clipcap, tiny_lm

ROOT = Path(__file__).parents[2]
DATA = [
    {
        "source": "manifest",
        "options": {"path": str(ROOT / "training/first_hour/images.jsonl")},
        "limit": 6,
    }
]
SETTINGS = {
    "output": "run",
    "data": DATA,
    "start": {"bundle": "mini", "prefix": "zero-shot", "new_prefix": "mine"},
    "recipe": {"steps": 3, "batch_size": 4, "lr": 0.01, "warmup": 1},
    "trainer": {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1},
    "card": {"license": "apache-2.0", "data": "Composed scenes."},
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def _train(*options, **changes):
    Path("config.yaml").write_text(yaml.safe_dump({**SETTINGS, **changes}))
    return main(["train", "fit", "--config", "config.yaml", *options])


def _refused(capsys, *options, **changes):
    """Exit code 2 and one line; returns the line."""
    assert _train(*options, **changes) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("regionlm: error: ")
    return line


def test_a_run_ends_with_a_bundle_that_captions(capsys):
    assert _train() == 0
    assert capsys.readouterr().out.startswith("run/bundle: 3 steps, loss ")
    mine = RegionCaptioner.from_pretrained("run/bundle", device="cpu")
    assert mine.prefix_model.prefix_name == "mine"
    assert mine.prefix_model.prefixes == ["zero-shot", "adapted", "mine"]
    mini = RegionCaptioner.from_pretrained("mini", device="cpu")
    for name in ("zero-shot", "adapted"):
        weights = mini.prefix_model.mappers[name].state_dict()
        for key, value in mine.prefix_model.mappers[name].state_dict().items():
            assert value.equal(weights[key])
    assert mine.backbone.inversion_defaults == mini.backbone.inversion_defaults


def test_the_card_states_the_facts_of_the_run():
    assert _train(validation=DATA) == 0
    card = Path("run/bundle/README.md").read_text()
    _, metadata, body = card.split("---\n", 2)
    assert yaml.safe_load(metadata)["license"] == "apache-2.0"
    last = read_curve(Path("run/curve.csv"))
    for fact in (
        "Composed scenes.", "6 pairs of embedding and text to train on, 6 to validate.",
        "images.jsonl", "trains: mapper", "lr: 0.01", "| optimiser steps | 3 |",
        f"{[row['loss'] for row in last if 'loss' in row][-1]:.4f}",
        f"{[row['val_loss'] for row in last if 'val_loss' in row][-1]:.4f}",
    ):  # fmt: skip
        assert fact in body


def test_the_card_stays_with_the_model():
    captioner = RegionCaptioner.from_pretrained("mini", device="cpu")
    captioner.card = "# Mine\n"
    captioner.save_pretrained("a")
    again = RegionCaptioner.from_pretrained("a", device="cpu")
    again.save_pretrained("b")
    assert Path("b/README.md").read_text() == "# Mine\n"
    assert RegionCaptioner.from_pretrained("mini", device="cpu").card is None


def test_the_same_command_again_changes_nothing(capsys):
    assert _train() == 0
    files = {p: p.read_bytes() for p in Path("run").rglob("*.safetensors")}
    curve = Path("run/curve.csv").read_bytes()
    assert _train() == 0
    assert Path("run/curve.csv").read_bytes() == curve
    assert {p: p.read_bytes() for p in Path("run").rglob("*.safetensors")} == files


def test_other_settings_need_another_folder(capsys):
    assert _train() == 0
    capsys.readouterr()
    line = _refused(capsys, "--recipe.lr", "0.02")
    assert "recipe.lr was 0.01, is 0.02" in line and "--output" in line
    # What decides no weight may change.
    assert _train("--trainer.log_every_n_steps", "2", "--card.license", "mit") == 0
    assert "license: mit" in Path("run/bundle/README.md").read_text()


EMA = {
    "class_path": "lightning.pytorch.callbacks.EMAWeightAveraging",
    "init_args": {"decay": 0.5},
}
HALF = {
    "class_path": "lightning.pytorch.plugins.HalfPrecision",
    "init_args": {"precision": "16-true"},
}
CSV = {"class_path": "lightning.pytorch.loggers.CSVLogger", "init_args": {"save_dir": "logs"}}


def test_callbacks_and_loggers_come_by_class_path():
    changes = {"trainer": {**SETTINGS["trainer"], "callbacks": [EMA], "logger": CSV}}
    assert _train(**changes) == 0
    assert f"class_path: {EMA['class_path']}" in Path("run/bundle/README.md").read_text()
    assert json.loads(Path("run/run.json").read_text())["trainer"]["callbacks"] == [EMA]
    assert list(Path("logs").rglob("metrics.csv"))
    (mine,) = Path("run/bundle").rglob("mine.safetensors")
    averaged = mine.read_bytes()
    assert _train(**changes) == 0  # a finished run has the averages, not the last weights
    assert mine.read_bytes() == averaged
    assert _train("--output", "plain") == 0
    assert next(Path("plain/bundle").rglob("mine.safetensors")).read_bytes() != averaged


def test_a_logger_that_can_not_write_is_refused_before_anything_is_embedded(capsys):
    Path("logs").write_text("a file")
    line = _refused(capsys, trainer={**SETTINGS["trainer"], "logger": CSV})
    assert "trainer.logger: CSVLogger can't write to logs" in line and "save_dir" in line
    assert not Path("runs").exists() and not Path("run").exists()


def test_a_run_says_what_it_computes_with(capsys):
    assert _train() == 0
    assert re.search(r", in 1 process with \d+ threads?$", capsys.readouterr().out.strip())


def test_a_bundle_that_can_not_be_read_back_is_no_success(capsys, monkeypatch):
    from prefix_models.clipcap import folder

    def without_weights(lm, where):
        write(lm, where)
        (where / "model.safetensors").unlink()

    write = folder.write_language_model
    with monkeypatch.context() as spoiled:
        spoiled.setattr(folder, "write_language_model", without_weights)
        line = _refused(capsys)
    there = Path("run/bundle/prefix_model").resolve()
    assert f"{there} is left as it was, " in line
    assert f"read back: missing file: {there}/language_model/model.safetensors" in line
    assert not Path("run/bundle").exists() and Path("run/checkpoints").exists()
    curve = Path("run/curve.csv").read_bytes()
    assert _train() == 0  # nothing is trained again
    assert Path("run/curve.csv").read_bytes() == curve
    RegionCaptioner.from_pretrained("run/bundle", device="cpu")


def test_a_folder_of_something_else_is_refused(capsys):
    Path("run").mkdir()
    Path("run/thesis.tex").write_text("mine")
    assert "thesis.tex" in _refused(capsys)
    assert os.listdir("run") == ["thesis.tex"]


def test_embed_only_computes_embeddings(capsys):
    Path("config.yaml").write_text(yaml.safe_dump(SETTINGS))
    assert main(["train", "embed", "--config", "config.yaml"]) == 0
    assert "6 pairs" in capsys.readouterr().out
    assert not Path("run").exists() and list(Path("runs/embeddings").rglob("*.safetensors"))


def test_any_language_model_and_its_tokenizer_from_a_folder():
    lm, tokenizer = tiny_lm()
    lm.save_pretrained("lm")
    tokenizer.save_pretrained("lm")
    start = {
        "backbone": str(ROOT / "regionlm/bundles/mini/backbone"),
        "language_model": "lm",
        "options": {"prefix_length": 3, "mapper_width": 8},
    }
    assert _train(start=start, recipe={**SETTINGS["recipe"], "trains": "lora"}) == 0
    found = RegionCaptioner.from_pretrained("run/bundle", device="cpu").prefix_model
    assert isinstance(found, ClipCap) and hasattr(found.lm, "peft_config")


def test_a_new_prefix_model_before_the_language_model_of_a_bundle():
    options = {"tokens_per_region": 2, "prompt": "<region>", "template": "{prompt}"}
    assert _train(start={"bundle": "mini", "kind": "projector", "options": options}) == 0
    mine = RegionCaptioner.from_pretrained("run/bundle", device="cpu")
    mini = RegionCaptioner.from_pretrained("mini", device="cpu")
    assert isinstance(mine.prefix_model, ProjectorModel)
    assert mine.prefix_model.context_length == 2
    weights = mini.prefix_model.lm.state_dict()
    for name, value in mine.prefix_model.lm.state_dict().items():
        assert value.equal(weights[name])
    assert mine.prefix_model.tokenizer.get_vocab() == mini.prefix_model.tokenizer.get_vocab()
    assert mine.backbone.inversion_defaults == mini.backbone.inversion_defaults


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"start": {"bundle": "nowhere"}}, "unknown model 'nowhere'"),
        ({"start": {"bundle": "mini", "prefix": "x"}}, "no prefix named 'x'"),
        ({"start": {"bundle": "mini", "new_prefix": "adapted"}}, "already a prefix"),
        ({"start": {}}, "start.backbone: found none; give one, or a start.bundle"),
        ({"start": {"bundle": "mini", "backbone": "ViT-B-32"}}, "comes with the bundle"),
        ({"start": {"bundle": "mini", "options": {"mapper": "mlp"}}}, "give start.kind"),
        ({"start": {"bundle": "mini", "kind": "clipcap", "prefix": "adapted"}}, "makes a new"),
        ({"start": {"bundle": "mini", "kind": "projector", "options": {"mapper": 1}}}, "mapper"),
        ({"recipe": {"steps": 3, "trains": "none"}}, "expected one of"),
        ({"recipe": {"steps": 3, "batch_size": 7}}, "number of pairs, 6; found 7"),
        ({"trainer": {"max_steps": 3}}, "max_steps"),
        ({"trainer": {"precision": "bf16-true"}}, "take bf16-mixed"),
        ({"trainer": {"precision": "16-true"}}, "take bf16-mixed"),
        ({"trainer": {"plugins": [HALF]}}, "found 16-true"),
        ({"trainer": {"precison": "16-mixed"}}, "precison"),
        ({"trainer": {"accelerator": "cpu", "devices": "many"}}, "devices"),
        ({"data": []}, "at least one set of pairs"),
        ({"push_to_hub": "no/such/id"}, "push_to_hub"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(changes, said, capsys):
    assert said in _refused(capsys, **changes)
    assert not Path("run").exists()


def test_a_tokenizer_of_more_words_than_the_language_model_is_one_line(capsys):
    lm, tokenizer = tiny_lm()
    tokenizer.add_tokens(["zebra"])
    lm.save_pretrained("lm")
    tokenizer.save_pretrained("lm")
    start = {
        "backbone": str(ROOT / "regionlm/bundles/mini/backbone"),
        "language_model": "lm",
    }
    capsys.readouterr()  # progress of writing them
    assert "tokenizer knows 17 tokens, the language model 16" in _refused(capsys, start=start)


def test_a_prefix_model_of_another_width_is_one_line(capsys):
    captioner = RegionCaptioner.from_pretrained("mini", device="cpu")
    captioner.save_pretrained("bundle")
    tiny_clipcap().save_pretrained("bundle/prefix_model")
    assert "width 12" in _refused(capsys, start={"bundle": "bundle"})


@pytest.mark.parametrize(
    ("option", "said"),
    [({"encoder": "another/clip"}, "trained on another/clip"), ({"embedding_dim": 12}, "width 12")],
)
def test_options_that_do_not_fit_the_backbone_are_refused_before_anything_is_made(
    option, said, capsys
):
    assert said in _refused(capsys, start={"bundle": "mini", "kind": "clipcap", "options": option})
    assert os.listdir() == ["config.yaml"]


def test_weights_that_were_cut_off_are_one_line(capsys):
    captioner = RegionCaptioner.from_pretrained("mini", device="cpu")
    captioner.save_pretrained("bundle")
    file = Path("bundle/prefix_model/mappers/zero-shot.safetensors")
    file.write_bytes(file.read_bytes()[:-100])
    assert "zero-shot.safetensors" in _refused(capsys, start={"bundle": "bundle"})


def test_uploading_needs_somebody_logged_in_before_training(capsys, monkeypatch):
    monkeypatch.setenv("HF_HOME", "nobody")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: None)
    assert "hf auth login" in _refused(capsys, "--push_to_hub", "me/mine")
    assert not Path("run").exists()


def test_a_hub_out_of_reach_is_one_line(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.get_token", lambda: "hf_none")
    captioner = RegionCaptioner.from_pretrained("mini", device="cpu")
    with pytest.raises(ModelError, match="cannot push to me/mine: ") as raised:
        captioner.push_to_hub("me/mine", private=True)
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="push_to_hub"):
        captioner.push_to_hub("not a name")


def test_help_answers_without_torch():
    code = (
        "import sys; from regionlm.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "finally: print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, "train", "fit", "--help"],
        capture_output=True, text=True, cwd=ROOT, check=True,
    )  # fmt: skip
    assert done.stdout.endswith("False\n") and "--recipe.batch_size" in done.stdout


def test_settings_are_kept_as_json():
    assert _train() == 0
    kept = json.loads(Path("run/run.json").read_text())
    assert kept["recipe"]["lr"] == 0.01 and kept["pairs"] == [6, 0] and "output" not in kept


def test_other_captions_in_the_same_file_need_another_folder(capsys):
    line = {"image": str(ROOT / "training/first_hour/images/0.jpg"), "caption": "a red car"}
    Path("some.jsonl").write_text("\n".join([json.dumps(line)] * 4))
    data = [{"source": "manifest", "options": {"path": "some.jsonl"}, "embedder": "cls"}]
    assert _train(data=data) == 0
    capsys.readouterr()
    Path("some.jsonl").write_text("\n".join([json.dumps({**line, "caption": "a frog"})] * 4))
    assert "embeddings was" in _refused(capsys, data=data)


def test_what_was_left_out_is_said_in_the_end(capsys):
    image = str(ROOT / "training/first_hour/images/0.jpg")
    lines = [{"image": image, "caption": "a red car"}] * 4 + [{"image": "gone.jpg", "caption": "a"}]
    Path("some.jsonl").write_text("\n".join(map(json.dumps, lines)))
    data = [{"source": "manifest", "options": {"path": "some.jsonl"}, "embedder": "cls"}]
    assert "some.jsonl, line 5: image gone.jpg does not exist" in _refused(capsys, data=data)
    assert _train(data=[{**data[0], "skip_bad": True}]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("data: left out 1 that can't be used: some.jsonl, line 5: image gone")


@pytest.mark.parametrize("name", ["data", "validation"])
def test_where_all_was_left_out_the_first_reason_is_said(name, capsys):
    lines = [{"image": f"gone{i}.jpg", "caption": "a"} for i in range(3)]
    Path("bad.jsonl").write_text("\n".join(map(json.dumps, lines)))
    bad = {"source": "manifest", "options": {"path": "bad.jsonl"}, "skip_bad": True}
    line = _refused(capsys, **{name: [{**bad, "embedder": "cls"}]})
    assert f"{name}: expected at least one pair, found none: skip_bad left out all 3; " in line
    assert "bad.jsonl, line 1: image gone0.jpg does not exist" in line
    assert not Path("run").exists()
