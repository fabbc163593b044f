"""Runs that are told to stop: they save what they have, and resume as if they had not."""

import os
import re
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import yaml
from safetensors.torch import load_file

from regionlm.cli.main import main
from training.training_folder import TrainingFolder

from .fitting import RECIPE, fit_tiny, same_weights
from .tiny import pairs, tiny_clipcap

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def usual_handler():
    """Ray takes SIGTERM as soon as it is imported, which tests before these may have done."""
    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGTERM, before)


class SignalAt(L.Callback):
    """Sends a signal to the first process, in the middle of a step.

    Args:
        step: in which it does; from 0.
        number: of the signal.
    """

    def __init__(self, step: int, number: int = signal.SIGTERM) -> None:
        self.step, self.number, self.sent = step, number, False

    def on_train_batch_start(self, trainer, *args):
        is_now = trainer.is_global_zero and trainer.global_step == self.step
        if is_now and not self.sent:
            self.sent = True
            os.kill(os.getpid(), self.number)


@pytest.fixture(autouse=True)
def heeded():
    """Tests that run in the background of a shell ignore SIGINT, unless told otherwise."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


RARELY = replace(RECIPE, checkpoint_every=1000, trains="all")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("options", [{}, {"accumulate_grad_batches": 2}])
def test_a_signal_saves_the_step(tmp_path, number, options):
    whole, again = tiny_clipcap(dropout=0.1), tiny_clipcap(dropout=0.1)
    expected = fit_tiny(whole, tmp_path / "whole", RARELY, **options)
    before = [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)]
    stop = {**options, "callbacks": [SignalAt(5, number)]}
    with pytest.raises(
        KeyboardInterrupt, match=r"^stopped after step 6; repeat the command to res"
    ):
        fit_tiny(tiny_clipcap(dropout=0.1), tmp_path / "run", RARELY, **stop)
    assert [signal.getsignal(one) for one in (signal.SIGTERM, signal.SIGINT)] == before
    assert TrainingFolder(tmp_path / "run", {}).last_checkpoint().name == "step=000000006.ckpt"
    run = fit_tiny(again, tmp_path / "run", RARELY, **stop)
    assert run.curve.read_text() == expected.curve.read_text()
    same_weights(again, whole, rtol=0, atol=0)


def test_a_signal_waits_for_the_validation_of_its_step(tmp_path):
    recipe = replace(RARELY, validate_every=3)
    whole, again = tiny_clipcap(), tiny_clipcap()
    expected = fit_tiny(whole, tmp_path / "whole", recipe, validation=pairs())
    stop = {"validation": pairs(), "callbacks": [SignalAt(5)]}
    with pytest.raises(KeyboardInterrupt, match="after step 6;"):
        fit_tiny(tiny_clipcap(), tmp_path / "run", recipe, **stop)
    run = fit_tiny(again, tmp_path / "run", recipe, **stop)
    assert run.curve.read_text() == expected.curve.read_text()
    same_weights(again, whole, rtol=0, atol=0)


def test_signals_that_a_program_handles_stay_with_it(tmp_path):
    heard = []
    before = signal.signal(signal.SIGTERM, lambda *_: heard.append("mine"))
    try:
        with pytest.raises(KeyboardInterrupt):  # Lightning ends the run after it
            fit_tiny(tiny_clipcap(), tmp_path, RARELY, callbacks=[SignalAt(5)])
    finally:
        signal.signal(signal.SIGTERM, before)
    assert heard == ["mine"]


def test_checkpoints_are_saved_by_time_too(tmp_path):
    """No time at all: after every step."""
    steps = []

    class Watch(L.Callback):
        def on_train_batch_start(self, trainer, *args):
            last = TrainingFolder(tmp_path, {}).last_checkpoint()
            steps.append(last and last.name)

    fit_tiny(tiny_clipcap(), tmp_path, replace(RARELY, checkpoint_minutes=0), callbacks=[Watch()])
    assert steps == [None, *(f"step={step:09d}.ckpt" for step in range(1, 12))]
    steps.clear()
    fit_tiny(tiny_clipcap(), tmp_path / "rarely", RARELY, callbacks=[Watch()])
    assert set(steps) == {"step=000000012.ckpt"}, "of the first run"


@pytest.mark.long
@pytest.mark.parametrize("processes", [1, 2])
def test_a_training_told_to_end_resumes_from_where_it_was(processes, tmp_path, capfd):
    """As `kill` does it: the first process alone is told. A single one is that of the tests."""
    settings = {
        "data": [{"source": "manifest", "limit": 6,
                  "options": {"path": str(ROOT / "training/first_hour/images.jsonl")}}],
        "start": {"bundle": "mini", "prefix": "zero-shot", "new_prefix": "mine"},
        "store": str(tmp_path / "embeddings"),
        "recipe": {"steps": 6, "batch_size": 4, "warmup": 1},
        "trainer": {"accelerator": "cpu", "devices": processes, "enable_progress_bar": False},
    }  # fmt: skip

    def train(output, step):
        """Exit code, and what was said."""
        callback = {
            "class_path": "tests.training.test_stopping.SignalAt",
            "init_args": {"step": step},
        }
        own = {
            "output": str(tmp_path / output),
            "trainer": settings["trainer"] | {"callbacks": [callback]},
        }
        config = tmp_path / f"{output}.yaml"
        config.write_text(yaml.safe_dump({**settings, **own}))
        arguments = ["train", "fit", "--config", str(config)]
        capfd.readouterr()
        if processes == 1:
            code = main(arguments)
        else:
            command = [sys.executable, "-m", "regionlm", *arguments]
            environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
            code = subprocess.run(command, cwd=ROOT, env=environment, timeout=400).returncode
        return code, *capfd.readouterr()

    def checkpoints(output):
        return [path.name for path in (tmp_path / output / "checkpoints").glob("*")]

    code, _, said = train("whole", 99)
    assert code == 0, said
    code, _, said = train("stopped", 2)
    assert said == "regionlm: stopped after step 3; repeat the command to resume\n"
    assert code == 130
    assert checkpoints("stopped") == ["step=000000003.ckpt"]
    assert not (tmp_path / "stopped/bundle").exists()
    code, printed, said = train("stopped", 2)
    assert code == 0 and re.search("/bundle: 6 steps, loss ", printed), said
    weights = [
        load_file(next((tmp_path / name / "bundle").rglob("mine.safetensors")))
        for name in ("whole", "stopped")
    ]
    assert weights[0].keys() == weights[1].keys()
    assert all(value.equal(weights[1][name]) for name, value in weights[0].items())
