"""Runs that were cut, killed or ended, and what resumes from their checkpoints."""

import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging

from regionlm.errors import InputError
from training.curve import read_curve
from training.fit import fit_pairs
from training.training_folder import TrainingFolder

from .fitting import OPTIONS, RECIPE, fit_tiny, losses, same_weights
from .tiny import pairs, tiny_clipcap

# What Lightning remarks on would reach a user of the Python API.
pytestmark = pytest.mark.filterwarnings(r"error::UserWarning:lightning\..*")

ROOT = Path(__file__).parents[2]


KILLED = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tests.training.test_checkpoints as t
from tests.training.tiny import tiny_clipcap, pairs
class Slow(t.L.Callback):
    def on_train_batch_end(self, trainer, *args):
        t.time.sleep(600 if trainer.global_step >= 7 else 0.3)  # until it is killed
model, folder = tiny_clipcap(dropout=0.1), Path(sys.argv[2])
t.fit_tiny(model, folder, t.ALL, validation=pairs(), callbacks=[Slow()])
"""
ALL = replace(RECIPE, trains="all", validate_every=4, steps=14)


@pytest.mark.long
def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path):
    whole = tiny_clipcap(dropout=0.1)
    expected = fit_tiny(whole, tmp_path / "whole", ALL, validation=pairs())
    killed = TrainingFolder(tmp_path / "killed", {})
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(ROOT), str(killed.folder)])
    try:
        deadline = time.monotonic() + 240
        while len(read_curve(killed.curve)) < 7:  # past the checkpoint of step 4, before that of 8
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert killed.last_checkpoint().name == "step=000000004.ckpt"
    again = tiny_clipcap(dropout=0.1)
    fit_tiny(again, killed.folder, ALL, validation=pairs())
    assert killed.curve.read_text() == expected.curve.read_text()
    same_weights(again, whole, rtol=0, atol=0)


def test_a_checkpoint_that_was_cut_off_is_not_taken(tmp_path):
    run = fit_tiny(tiny_clipcap(), tmp_path)
    whole = run.last_checkpoint()
    cut = whole.with_name("step=000000099.ckpt")
    cut.write_bytes(whole.read_bytes()[:-100])
    assert run.last_checkpoint() == whole


def test_a_checkpoint_of_another_model_is_one_line(tmp_path):
    fit_tiny(tiny_clipcap(), tmp_path, replace(RECIPE, steps=4))
    with pytest.raises(InputError, match="does not continue this run"):
        fit_tiny(tiny_clipcap(width=24), tmp_path, replace(RECIPE, steps=8))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("hacked",)


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = TrainingFolder(tmp_path / "run", {})
    run.checkpoints.mkdir()
    torch.save({"state_dict": Evil()}, run.checkpoints / "step=000000004.ckpt")
    with pytest.raises(InputError, match="does not continue this run"):
        fit_tiny(tiny_clipcap(), run.folder)
    assert not (tmp_path / "hacked").exists()


def test_a_full_disk_is_one_line(tmp_path):
    """A limit on the size of files is refused where a full disk is: in write."""
    model = tiny_clipcap(width=200)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        with pytest.raises(InputError, match="cannot be written: File too large") as raised:
            fit_tiny(model, tmp_path / "run")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(raised.value)
    assert TrainingFolder(tmp_path / "run", {}).last_checkpoint() is None


def test_averaged_weights_resume_too(tmp_path):
    whole, again = tiny_clipcap(), tiny_clipcap()
    fit_tiny(whole, tmp_path / "a", callbacks=[EMAWeightAveraging(decay=0.5)])

    class Stop(L.Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 6:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped = [EMAWeightAveraging(decay=0.5), Stop()]
        fit_tiny(tiny_clipcap(), tmp_path / "b", callbacks=stopped)
    fit_tiny(again, tmp_path / "b", callbacks=[EMAWeightAveraging(decay=0.5)])
    same_weights(again, whole, rtol=0, atol=0)
    plain = tiny_clipcap()
    fit_tiny(plain, tmp_path / "c")
    with pytest.raises(AssertionError):
        same_weights(plain, whole)


def test_a_run_cut_before_a_validation_makes_it_up(tmp_path):
    recipe = replace(RECIPE, validate_every=4)
    whole, again = tiny_clipcap(), tiny_clipcap()
    expected = fit_tiny(whole, tmp_path / "a", recipe, validation=pairs())

    class Stop(L.Callback):
        def on_validation_start(self, trainer, *args):
            if trainer.global_step == 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_tiny(tiny_clipcap(), tmp_path / "b", recipe, validation=pairs(), callbacks=[Stop()])
    run = fit_tiny(again, tmp_path / "b", recipe, validation=pairs())
    assert run.curve.read_text() == expected.curve.read_text()
    same_weights(again, whole, rtol=0, atol=0)


# --- runs that a callback ends


def _impatient():
    """Takes every validation for a worse one, and ends the run at the fourth."""
    return EarlyStopping("val_loss", mode="max", min_delta=1e9, patience=3)


@pytest.mark.parametrize(("every", "micro"), [(2, 1), (3, 1), (3, 2), (4, 2), (100, 1)])
def test_a_run_stopped_early_is_the_same_cut_anywhere(tmp_path, every, micro):
    recipe = replace(RECIPE, steps=14, validate_every=2, checkpoint_every=every)
    options = {"validation": pairs(), "accumulate_grad_batches": micro}
    whole = tiny_clipcap()
    expected = fit_tiny(whole, tmp_path / "whole", recipe, callbacks=[_impatient()], **options)
    assert len(losses(expected)) == 8
    for cut in (3, 4, 5, 6, 8):
        stop = _StopAt(cut)
        with pytest.raises(KeyboardInterrupt):
            callbacks = [_impatient(), stop]
            fit_tiny(tiny_clipcap(), tmp_path / str(cut), recipe, callbacks=callbacks, **options)
        again = tiny_clipcap()
        run = fit_tiny(again, tmp_path / str(cut), recipe, callbacks=[_impatient()], **options)
        assert run.curve.read_text() == expected.curve.read_text(), cut
        same_weights(again, whole, rtol=0, atol=0)


def test_a_run_that_is_told_to_end_says_so(tmp_path):
    class Told(L.Callback):
        def on_train_batch_end(self, trainer, *args):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        fit_tiny(tiny_clipcap(), tmp_path, callbacks=[Told()])
    assert signal.getsignal(signal.SIGTERM) is before


class _StopAt(L.Callback):
    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *args):
        if trainer.global_step == self.step:
            raise KeyboardInterrupt


class _EndAt(_StopAt):
    """Ends the run in good order, unlike the base class."""

    def on_train_batch_end(self, trainer, *args):
        trainer.should_stop = trainer.global_step == self.step


@pytest.mark.parametrize(
    ("ended_by", "validation", "steps"),
    [
        (_impatient, pairs(), 8),
        (lambda: _EndAt(7), pairs(), 7),
        (lambda: _EndAt(7), None, 7),
        (lambda: _StopAt(99), None, 14),
    ],
)
def test_an_ended_run_trains_no_further(tmp_path, ended_by, validation, steps):
    recipe = replace(RECIPE, validate_every=2, checkpoint_every=3, steps=14)
    folder, models, curves = TrainingFolder(tmp_path, {}), [], []
    for _ in range(2):
        models.append(tiny_clipcap())
        trained = _Trained()
        callbacks = [ended_by(), EMAWeightAveraging(decay=0.5), trained]
        options = {**OPTIONS, "callbacks": callbacks}
        assert fit_pairs(models[-1], recipe, pairs(), validation, folder, options).steps == steps
        (checkpoint,) = folder.checkpoints.iterdir()
        assert checkpoint.name == f"step={steps:09d}.ckpt"
        curves.append(folder.curve.read_text())
    assert trained.batches == 0 and curves[0] == curves[1]
    same_weights(*models, rtol=0, atol=0)


class _Trained(L.Callback):
    batches = 0

    def on_train_batch_start(self, *args):
        self.batches += 1
