"""Settings that can't be used are one line and exit code 2, before anything is read or made."""

import json
import math
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from lightning.pytorch import Callback
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from prefix_models import PrefixModelError, add_lora
from regionlm import RegionCaptioner
from regionlm.cli.main import main
from regionlm.cli.settings import build
from regionlm.errors import InputError
from training.fit_settings import Fit, PairSet, Recipe, Start
from training.start import load_start

from .tiny import tiny_lm

ROOT = Path(__file__).parents[2]
DATA = {
    "source": "manifest",
    "options": {"path": str(ROOT / "training/first_hour/images.jsonl")},
    "limit": 6,
}
GIVEN = {
    "output": "run",
    "data": json.dumps([DATA]),
    "start.bundle": "mini",
    "recipe.steps": "2",
    "recipe.batch_size": "4",
    "trainer.accelerator": "cpu",
    "trainer.enable_progress_bar": "false",
}


@pytest.fixture
def refused(tmp_path, monkeypatch, capsys):
    """Runs `train fit` with changed options, and returns its one line of error."""
    monkeypatch.chdir(tmp_path)

    def run(**changed):
        changed = {name.replace("__", "."): value for name, value in changed.items()}
        options = [x for name, value in {**GIVEN, **changed}.items() for x in (f"--{name}", value)]
        assert main(["train", "fit", *options]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert not Path("run").exists() and not Path("runs").exists()
        return line.removeprefix("regionlm: error: ")

    return run


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lr", -1.0), ("lr", 0.0), ("lr", math.nan), ("lr", math.inf),
        ("warmup", -3), ("weight_decay", -1.0), ("weight_decay", math.nan), ("noise", -1.0),
        ("seed", -1), ("seed", 2**32), ("checkpoint_every", 0), ("checkpoint_every", -5),
        ("validate_every", 0),
    ],
)  # fmt: skip
def test_numbers_out_of_range_are_refused(name, value):
    with pytest.raises(InputError, match=rf"^recipe\.{name}: expected .*, found {value}$"):
        Recipe(**{name: value})


def test_numbers_at_the_border_are_taken():
    Recipe(warmup=0, weight_decay=0.0, noise=0.0, seed=0, checkpoint_every=1, validate_every=1)
    Recipe(seed=2**32 - 1)
    PairSet("manifest", workers=0, limit=1)


@pytest.mark.parametrize(("name", "value"), [("workers", -1), ("limit", 0)])
def test_sets_of_pairs_are_checked(name, value):
    with pytest.raises(
        InputError, match=rf"^data\.{name}: expected an integer >= ., found {value}$"
    ):
        PairSet("manifest", **{name: value})


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"recipe__lr": "-1"}, "recipe.lr: expected a number > 0, found -1"),
        ({"recipe__lr": "fast"}, "--recipe.lr: expected a finite number, found 'fast'"),
        ({"recipe__seed": "-1"}, "recipe.seed: expected an integer from 0 to 4294967295, found -1"),
        ({"data": json.dumps([{**DATA, "workers": -1}])}, "data.workers: expected an integer >= 0"),
        ({"trainer__accumulate_grad_batches": "0"}, "trainer.accumulate_grad_batches: expected"),
        (
            {"trainer__gradient_clip_val": "-1.0"},
            "trainer.gradient_clip_val: expected a number >= 0",
        ),
        (
            {"trainer__gradient_clip_val": ".nan"},
            "trainer.gradient_clip_val: expected a number >= 0",
        ),
        (
            {"trainer__log_every_n_steps": "0"},
            "trainer.log_every_n_steps: expected an integer >= 1",
        ),
        ({"trainer__barebones": "true"}, "--trainer.barebones: the recipe decides it"),
        ({"trainer__nope": "1"}, "--trainer.nope: no argument of Trainer"),
        (
            {"trainer__devices": "{}"},
            "--trainer.devices: expected a list of integers or text or int, found",
        ),
        ({"trainer__logger": "csv"}, "--trainer.logger: expected Logger or "),
        ({"trainer": "x"}, "--trainer: expected a mapping, found 'x'"),
        ({"start": "mini"}, "--start: expected a mapping of bundle, prefix, new_prefix"),
        ({"data": '[{"source": "manifest", "limit": "x"}]'}, "--data[0].limit: expected int"),
        ({"data": '[{"source": "manifest", "nope": 1}]'}, "--data[0].nope: no such option"),
        ({"data": '[{"limit": 3}]'}, "arguments are required: --data[0].source"),
        ({"data": '["manifest"]'}, "--data: expected a list, each item a mapping of source"),
    ],
)
def test_on_the_command_line_they_are_one_line(changed, said, refused):
    assert said in refused(**changed)


# --- callbacks


def _callback(name, **arguments):
    found = {"class_path": f"lightning.pytorch.callbacks.{name}", "init_args": arguments}
    return {"trainer__callbacks": json.dumps([found])}


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (("Nope", {}), "--trainer.callbacks: expected the class_path of a Callback, found 'light"),
        (("EarlyStopping", {}), "--trainer.callbacks: EarlyStopping.monitor: has to be given"),
        (("EarlyStopping", {"monitor": 3}), "EarlyStopping.monitor: expected text, found 3"),
        (("Timer", {"nope": 3}), "--trainer.callbacks: Timer.nope: no argument of Timer"),
        (("EarlyStopping", {"monitor": "loss"}), "EarlyStopping looks at its metric after each"),
        (("EarlyStopping", {"monitor": "loss", "mode": "up"}), "trainer: `mode` can be min, max"),
        (("ModelCheckpoint", {"monitor": "val_loss"}), "val_loss needs validation pairs"),
        (("ModelCheckpoint", {"monitor": "cider"}), "of loss, lr, step, epoch; found 'cider'"),
        (("GradientAccumulationScheduler", {"scheduling": {0: 2}}), "accumulate_grad_batches"),
        (("Timer", {"duration": "00:00:00:00"}), "Timer can't be used: recipe.steps or"),
        (("BackboneFinetuning", {}), "recipe.trains sets what is trained"),
        (("ModelPruning", {"pruning_fn": "l1_unstructured"}), "ModelPruning can't be used"),
        (("LearningRateFinder", {}), "LearningRateFinder can't be used: give recipe.lr"),
        (("BatchSizeFinder", {}), "BatchSizeFinder can't be used: give recipe.batch_size"),
        (("StochasticWeightAveraging", {"swa_lrs": 0.1}), "take EMAWeightAveraging"),
    ],
)
def test_callbacks_that_can_not_work_are_one_line(callback, said, refused):
    name, arguments = callback
    assert said in refused(**_callback(name, **arguments))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"monitor": "cider"}, "of loss, lr, val_loss; found 'cider'"),
        ({"monitor": "loss", "check_on_train_epoch_end": True}, "check_on_train_epoch_end false"),
    ],
)
def test_stopping_early_by_what_is_not_looked_at_is_one_line(arguments, said, refused):
    changed = _callback("EarlyStopping", **arguments)
    assert said in refused(**changed, validation=json.dumps([DATA]))


class Absent(Logger):
    """As Lightning's own loggers do where their package is not installed."""

    name, version = "absent", ""

    def __init__(self):
        raise ModuleNotFoundError("`absent` is not available.\nTry `pip install absent`")

    log_metrics = log_hyperparams = Logger.save


class Picky(Callback):
    """As Lightning's own callbacks do where they do not fit the trainer."""

    def on_fit_start(self, trainer, pl_module):
        raise MisconfigurationException("Picky is not supported\nwith `max_epochs=-1`")


@pytest.mark.parametrize("in_a_list", [False, True])
def test_loggers_that_lack_a_package_are_one_line(in_a_list, refused):
    given = {"class_path": f"{__name__}.Absent"}
    line = refused(trainer__logger=json.dumps([given] if in_a_list else given))
    assert line.startswith("trainer: ") and line.endswith(
        "`absent` is not available. Try `pip install absent`"
    )


@pytest.mark.skipif(
    any(find_spec(name) for name in ("tensorboard", "tensorboardX")), reason="it is installed"
)
def test_tensorboard_that_is_not_installed_is_one_line(refused):
    given = {
        "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
        "init_args": {"save_dir": "tb"},
    }
    assert "Neither `tensorboard` nor `tensorboardX`" in refused(trainer__logger=json.dumps(given))


def test_callbacks_that_do_not_fit_the_trainer_are_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    options = {**GIVEN, "trainer.callbacks": json.dumps([{"class_path": f"{__name__}.Picky"}])}
    assert main(["train", "fit", *(f"--{name}={value}" for name, value in options.items())]) == 2
    said = "trainer: Picky is not supported with `max_epochs=-1`"
    assert capsys.readouterr().err == f"regionlm: error: {said}\n"
    assert not Path("run").exists()


def test_stopping_early_ends_with_a_bundle_once_for_all(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stop = {"monitor": "val_loss", "patience": 1, "min_delta": 1e9}
    changed = {
        **_callback("EarlyStopping", **stop),
        "validation": json.dumps([DATA]),
        "recipe.steps": "9",
        "recipe.validate_every": "1",
    }
    options = {**GIVEN, **{name.replace("__", "."): value for name, value in changed.items()}}
    command = ["train", "fit", *(f"--{name}={value}" for name, value in options.items())]
    assert main(command) == 0
    assert RegionCaptioner.from_pretrained("run/bundle", device="cpu")
    curve = Path("run/curve.csv").read_text()
    assert len(curve.splitlines()) < 9
    weights = {path: path.read_bytes() for path in Path("run/bundle").rglob("*.safetensors")}
    assert main(command) == 0
    assert Path("run/curve.csv").read_text() == curve
    assert weights == {path: path.read_bytes() for path in weights}
    assert capsys.readouterr().err == ""


# --- LoRA


def test_options_of_lora_go_with_lora(refused):
    assert "goes with recipe.trains lora, found mapper" in refused(recipe__lora='{"rank": 4}')
    with pytest.raises(InputError, match=r"recipe\.lora"):
        replace(Recipe(trains="lora", lora={"rank": 4}), trains="all")


def test_an_unknown_option_of_lora_is_one_line(refused):
    line = refused(recipe__trains="lora", recipe__lora='{"ranks": 4}')
    assert line == "recipe.lora: expected rank, alpha, dropout, target_modules; found 'ranks'"


@pytest.mark.parametrize(
    "options",
    [{"rank": 0}, {"rank": "x"}, {"alpha": math.nan}, {"alpha": "x"}, {"dropout": -0.5},
     {"dropout": 1.0}, {"target_modules": "nowhere"}],
)  # fmt: skip
def test_values_that_lora_can_not_use(options):
    with pytest.raises(PrefixModelError, match=r"^these LoRA settings can't be used: .") as raised:
        add_lora(tiny_lm()[0], **options)
    assert "\n" not in str(raised.value)


def test_adapters_of_a_bundle_are_trained_further_as_they_are(tmp_path):
    captioner = RegionCaptioner.from_pretrained("mini", device="cpu")
    captioner.prefix_model.lm = add_lora(captioner.prefix_model.lm, rank=2)
    captioner.save_pretrained(tmp_path / "adapted")
    start = Start(bundle=str(tmp_path / "adapted"))
    with pytest.raises(InputError, match=r"recipe\.lora: .* has adapters already"):
        load_start(start, Recipe(trains="lora", lora={"rank": 4}))
    _, model = load_start(start, Recipe(trains="lora"))
    assert model.lm.peft_config["default"].r == 2


# --- packages


def test_a_package_that_is_missing_is_one_line(refused, monkeypatch):
    monkeypatch.setattr("regionlm.extras.find_spec", lambda name: name != "pycocotools" or None)
    assert 'needs pycocotools, not installed: pip install "regionlm[train]"' in refused()


WITHOUT = """
import sys
sys.path.insert(0, sys.argv[1])
for name in ("scipy", "matplotlib", "nltk", "pycocoevalcap", "peft"):
    sys.modules[name] = None  # as if it were not installed
import training.data
"""


def test_sources_of_examples_need_no_packages_of_other_extras():
    subprocess.run([sys.executable, "-c", WITHOUT, str(ROOT)], check=True, timeout=200)


def test_the_extra_brings_the_packages():
    tomllib = pytest.importorskip("tomllib")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    named = " ".join([*extras["train"], *extras["bulk"]])
    assert "regionlm[bulk]" in named
    for package in ("lightning", "torchmetrics", "pycocotools"):
        assert package in named


def test_texts_among_options_stay_texts():
    """Else there would be numbers of them, and lists of shards."""
    given = {
        "output": "runs/x",
        "data": [{"source": "manifest", "options": {"path": "001"}}],
        "start": {"bundle": "mini", "options": {"prompt": "[<region>]"}},
    }
    fit = build(Fit, given)
    assert fit.data[0].options == {"path": "001"}
    assert fit.start.options == {"prompt": "[<region>]"}
