import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import EarlyStopping, EMAWeightAveraging
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from prefix_models import PrefixModelError, add_lora
from regionlm.errors import InputError
from training.curve import read_curve
from training.fit import fit_pairs
from training.prefix import PrefixTrainer
from training.run_folder import RunFolder
from training.settings import Recipe

from .tiny import pairs, tiny_clipcap, tiny_projector

# What Lightning remarks on would reach a user of the Python API.
pytestmark = pytest.mark.filterwarnings(r"error::UserWarning:lightning\..*")

ROOT = Path(__file__).parents[2]

RECIPE = Recipe(steps=12, batch_size=8, lr=5e-3, warmup=3, checkpoint_every=4, noise=0.1)
OPTIONS = {"accelerator": "cpu", "log_every_n_steps": 1, "enable_progress_bar": False}


def _fit(model, folder, recipe=RECIPE, validation=None, **options):
    run = RunFolder(folder, {})
    fit_pairs(model, recipe, pairs(), validation, run, {**OPTIONS, **options})
    return run


def _same_weights(a, b, **tolerance):
    for name, value in a.state_dict().items():
        torch.testing.assert_close(value, b.state_dict()[name], msg=name, **tolerance)


def _losses(run):
    return [row["loss"] for row in read_curve(run.curve) if "loss" in row]


# --- what is trained


def test_training_learns_its_captions(tmp_path):
    model = tiny_clipcap()
    _fit(model, tmp_path, replace(RECIPE, steps=80, noise=0.0, trains="all"))
    embeddings = torch.stack([pairs()[i][0] for i in range(4)])
    assert [g.text for g in model.generate(embeddings)] == [pairs()[i][1] for i in range(4)]


@pytest.mark.parametrize("trains", ["mapper", "lora", "all"])
@pytest.mark.parametrize("build", [tiny_clipcap, tiny_projector])
def test_only_what_the_recipe_names_moves(tmp_path, build, trains):
    model = build()
    if trains == "lora":
        model.lm = add_lora(model.lm, rank=2)
    grads = {name: p.requires_grad for name, p in model.named_parameters()}
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    _fit(model, tmp_path, replace(RECIPE, trains=trains))
    changed = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    mapper = {id(p) for p in model.mapper.parameters()}
    in_mapper = {n for n, p in model.named_parameters() if id(p) in mapper}
    assert in_mapper <= changed
    adapters = {n for n in before if "lora_" in n}
    expected = {"mapper": set(), "lora": adapters, "all": set(before) - in_mapper}[trains]
    assert changed - in_mapper == expected
    assert {name: p.requires_grad for name, p in model.named_parameters()} == grads


def test_a_new_prefix_leaves_the_old_one_alone(tmp_path):
    model = tiny_clipcap().add_prefix("adapted")
    before = {name: value.clone() for name, value in model.state_dict().items()}
    _fit(model, tmp_path)
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed and all(name.startswith("mappers.adapted.") for name in changed)


def test_lora_without_adapters_is_refused(tmp_path):
    with pytest.raises(PrefixModelError, match="add_lora"):
        _fit(tiny_clipcap(), tmp_path, replace(RECIPE, trains="lora"))


def test_checkpoints_hold_what_is_trained_and_nothing_else(tmp_path):
    run = _fit(tiny_clipcap(), tmp_path)
    names = torch.load(run.last_checkpoint(), weights_only=True)["state_dict"]
    assert names and all(name.startswith("model.mappers.") for name in names)


def test_checkpoints_hold_averages_of_what_is_trained_and_nothing_else(tmp_path):
    run = _fit(tiny_clipcap(), tmp_path, callbacks=[EMAWeightAveraging(decay=0.5)])
    checkpoint = torch.load(run.last_checkpoint(), weights_only=True)
    sets = [set(one) for one in checkpoint.values() if isinstance(one, dict) and _weights(one)]
    trained = {name for name, _ in PrefixTrainer(tiny_clipcap(), RECIPE, pairs()).named_parameters()
               if name.startswith("model.mappers.")}  # fmt: skip
    assert sets == [trained, trained]


def _weights(values):
    return all(isinstance(value, torch.Tensor) and value.ndim for value in values.values())


def test_weights_that_are_split_over_processes_are_stored_whole(tmp_path):
    """FSDP puts wrappers between the modules, and finds its own way through their state."""
    model = tiny_clipcap()
    module = PrefixTrainer(model, RECIPE, pairs())
    module.setup("fit")
    required = {name: p.requires_grad for name, p in module.named_parameters()}
    before = {name: value.clone() for name, value in module.state_dict().items()}
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        policy = ModuleWrapPolicy({type(model.mapper), type(model.lm.transformer.h[0])})
        wrapped = FullyShardedDataParallel(
            module, auto_wrap_policy=policy, device_id=torch.device("cpu"), use_orig_params=True
        )
        assert required != {name: p.requires_grad for name, p in module.named_parameters()}
        stored = wrapped.state_dict()
        assert stored.keys() == before.keys()
        wrapped.load_state_dict({name: torch.zeros_like(value) for name, value in stored.items()})
        wrapped.load_state_dict(before)
        _same_weights(wrapped, module)
        module.teardown("fit")
    finally:
        dist.destroy_process_group()
    assert all(parameter.requires_grad for parameter in module.parameters())


# --- exact resumption

KILLED = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tests.training.test_prefix as t
from tests.training.tiny import tiny_clipcap, pairs
class Slow(t.L.Callback):
    def on_train_batch_end(self, *args):
        __import__("time").sleep(0.3)
t._fit(tiny_clipcap(dropout=0.1), Path(sys.argv[2]), t.ALL, validation=pairs(), callbacks=[Slow()])
"""
ALL = replace(RECIPE, trains="all", validate_every=4, steps=14)


def test_a_killed_run_goes_on_as_if_it_had_not_been(tmp_path):
    whole = tiny_clipcap(dropout=0.1)
    expected = _fit(whole, tmp_path / "whole", ALL, validation=pairs())
    killed = RunFolder(tmp_path / "killed", {})
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
    _fit(again, killed.folder, ALL, validation=pairs())
    assert killed.curve.read_text() == expected.curve.read_text()
    _same_weights(again, whole, rtol=0, atol=0)


def test_validating_changes_nothing(tmp_path):
    """Dropout of a frozen language model stays off after it, too."""
    recipe = replace(RECIPE, validate_every=2)
    with_, without = tiny_clipcap(dropout=0.3), tiny_clipcap(dropout=0.3)
    a = _fit(with_, tmp_path / "a", recipe, validation=pairs())
    b = _fit(without, tmp_path / "b", recipe)
    assert _losses(a) == _losses(b) and len(_losses(a)) == 12
    _same_weights(with_, without, rtol=0, atol=0)
    plain = tiny_clipcap(dropout=0.0)
    assert _losses(_fit(plain, tmp_path / "c", recipe)) == _losses(a)


def test_a_checkpoint_that_was_cut_off_is_not_taken(tmp_path):
    run = _fit(tiny_clipcap(), tmp_path)
    whole = run.last_checkpoint()
    cut = whole.with_name("step=000000099.ckpt")
    cut.write_bytes(whole.read_bytes()[:-100])
    assert run.last_checkpoint() == whole


def test_a_checkpoint_of_another_model_is_one_line(tmp_path):
    _fit(tiny_clipcap(), tmp_path, replace(RECIPE, steps=4))
    with pytest.raises(InputError, match="does not continue this run"):
        _fit(tiny_clipcap(width=24), tmp_path, replace(RECIPE, steps=8))


class Evil:
    def __reduce__(self):
        return os.mkdir, ("hacked",)


def test_a_checkpoint_that_holds_code_is_not_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = RunFolder(tmp_path / "run", {})
    run.checkpoints.mkdir()
    torch.save({"state_dict": Evil()}, run.checkpoints / "step=000000004.ckpt")
    with pytest.raises(InputError, match="does not continue this run"):
        _fit(tiny_clipcap(), run.folder)
    assert not (tmp_path / "hacked").exists()


FULL = """
import resource, sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tests.training.test_prefix as t
resource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))  # as if the disk were full after that
try:
    t._fit(t.tiny_clipcap(width=200), Path(sys.argv[2]))
except t.InputError as error:
    print(error)
"""


def test_a_full_disk_is_one_line(tmp_path):
    command = [sys.executable, "-c", FULL, str(ROOT), str(tmp_path / "run")]
    done = subprocess.run(command, check=True, timeout=300, capture_output=True, text=True)
    assert "cannot be written: File too large" in done.stdout
    assert RunFolder(tmp_path / "run", {}).last_checkpoint() is None


def test_averaged_weights_resume_too(tmp_path):
    whole, again = tiny_clipcap(), tiny_clipcap()
    _fit(whole, tmp_path / "a", callbacks=[EMAWeightAveraging(decay=0.5)])

    class Stop(L.Callback):
        def on_train_batch_end(self, trainer, *args):
            if trainer.global_step == 6:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped = [EMAWeightAveraging(decay=0.5), Stop()]
        _fit(tiny_clipcap(), tmp_path / "b", callbacks=stopped)
    _fit(again, tmp_path / "b", callbacks=[EMAWeightAveraging(decay=0.5)])
    _same_weights(again, whole, rtol=0, atol=0)
    plain = tiny_clipcap()
    _fit(plain, tmp_path / "c")
    with pytest.raises(AssertionError):
        _same_weights(plain, whole)


def test_a_run_cut_before_a_validation_makes_it_up(tmp_path):
    recipe = replace(RECIPE, validate_every=4)
    whole, again = tiny_clipcap(), tiny_clipcap()
    expected = _fit(whole, tmp_path / "a", recipe, validation=pairs())

    class Stop(L.Callback):
        def on_validation_start(self, trainer, *args):
            if trainer.global_step == 8:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _fit(tiny_clipcap(), tmp_path / "b", recipe, validation=pairs(), callbacks=[Stop()])
    run = _fit(again, tmp_path / "b", recipe, validation=pairs())
    assert run.curve.read_text() == expected.curve.read_text()
    _same_weights(again, whole, rtol=0, atol=0)


# --- runs that a callback ends


def _impatient():
    """Takes every validation for a worse one, and ends the run at the fourth."""
    return EarlyStopping("val_loss", mode="max", min_delta=1e9, patience=3)


@pytest.mark.parametrize("micro", [1, 2])
@pytest.mark.parametrize("every", [2, 3, 4, 100])
def test_a_run_stopped_early_is_the_same_cut_anywhere(tmp_path, every, micro):
    recipe = replace(RECIPE, steps=14, validate_every=2, checkpoint_every=every)
    options = {"validation": pairs(), "accumulate_grad_batches": micro}
    whole = tiny_clipcap()
    expected = _fit(whole, tmp_path / "whole", recipe, callbacks=[_impatient()], **options)
    assert len(_losses(expected)) == 8
    for cut in (3, 4, 5, 6, 8):
        stop = _StopAt(cut)
        with pytest.raises(KeyboardInterrupt):
            callbacks = [_impatient(), stop]
            _fit(tiny_clipcap(), tmp_path / str(cut), recipe, callbacks=callbacks, **options)
        again = tiny_clipcap()
        run = _fit(again, tmp_path / str(cut), recipe, callbacks=[_impatient()], **options)
        assert run.curve.read_text() == expected.curve.read_text(), cut
        _same_weights(again, whole, rtol=0, atol=0)


def test_a_run_that_is_told_to_end_says_so(tmp_path):
    class Told(L.Callback):
        def on_train_batch_end(self, trainer, *args):
            os.kill(os.getpid(), signal.SIGTERM)

    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt):
        _fit(tiny_clipcap(), tmp_path, callbacks=[Told()])
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
    folder, models, curves = RunFolder(tmp_path, {}), [], []
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
    _same_weights(*models, rtol=0, atol=0)


class _Trained(L.Callback):
    batches = 0

    def on_train_batch_start(self, *args):
        self.batches += 1


# --- the same step, however it is split


def test_accumulation_is_the_larger_batch(tmp_path):
    one, four = tiny_clipcap(), tiny_clipcap()
    a = _fit(one, tmp_path / "1", RECIPE)
    b = _fit(four, tmp_path / "4", RECIPE, accumulate_grad_batches=4)
    assert _losses(b) == pytest.approx(_losses(a), abs=1e-6)
    _same_weights(four, one, rtol=1e-4, atol=1e-5)


TWO = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tests.training.test_prefix as t
from tests.training.tiny import tiny_clipcap, pairs
model = tiny_clipcap()
t._fit(model, Path(sys.argv[2]), t.UNEVEN, validation=pairs(), devices=2, strategy="ddp")
torch.save(model.state_dict(), Path(sys.argv[2]) / f"weights-{model.device}.pt")
"""
UNEVEN = replace(RECIPE, trains="all", batch_size=7, validate_every=4)


def test_two_processes_are_one(tmp_path):
    one = tiny_clipcap()
    alone = _fit(one, tmp_path / "1", UNEVEN, validation=pairs())
    both = tmp_path / "2"
    both.mkdir()
    script = tmp_path / "two.py"
    script.write_text(TWO)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    for name in ("LOCAL_RANK", "NODE_RANK", "WORLD_SIZE", "MASTER_PORT", "MASTER_ADDR"):
        environment.pop(name, None)
    subprocess.run(
        [sys.executable, str(script), str(ROOT), str(both)],
        check=True,
        timeout=400,
        env=environment,
    )
    pair = RunFolder(both, {})
    assert _losses(pair) == pytest.approx(_losses(alone), abs=1e-6)
    validated = [row["val_loss"] for row in read_curve(pair.curve) if "val_loss" in row]
    expected = [row["val_loss"] for row in read_curve(alone.curve) if "val_loss" in row]
    assert len(expected) == 3 and validated == pytest.approx(expected, abs=1e-6)
    weights = torch.load(both / "weights-cpu.pt", weights_only=True)
    for name, value in one.state_dict().items():  # AdamW makes much of gradients close to 0
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=5e-5)


# --- bad input


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    model = tiny_clipcap()
    with torch.no_grad():
        next(model.mapper.parameters()).fill_(float("nan"))
    with pytest.raises(PrefixModelError, match=r"nan at step 0: lower recipe\.lr.*16-mixed$"):
        _fit(model, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_after_a_step_asks_for_another_folder(tmp_path):
    recipe = replace(RECIPE, lr=1e30, warmup=0)
    with pytest.raises(PrefixModelError, match=r"at step [1-9].* another --output or delete this"):
        _fit(tiny_clipcap(), tmp_path / "run", recipe)
    assert list((tmp_path / "run").iterdir())  # and other settings are refused there


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": None}, "either steps or epochs"),
        ({"epochs": 2}, "either steps or epochs"),
        ({"batch_size": 33}, "at most the number of pairs, 32"),
        ({"batch_size": 0}, "at least 1"),
    ],
)
def test_recipes_that_fit_no_data_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        PrefixTrainer(tiny_clipcap(), replace(RECIPE, **change), pairs())


def test_epochs_count_full_batches():
    recipe = replace(RECIPE, steps=None, epochs=3, batch_size=10)
    assert PrefixTrainer(tiny_clipcap(), recipe, pairs()).steps == 9
