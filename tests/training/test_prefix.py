import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import lightning as L
import pytest
import torch
import torch.distributed as dist
from lightning.pytorch.callbacks import EMAWeightAveraging
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.distributed.fsdp.wrap import ModuleWrapPolicy

from prefix_models import PrefixModelError, add_lora
from regionlm.distributed.journal import Journal
from regionlm.distributed.predict_module import PredictModule
from regionlm.distributed.trainer import new_trainer, predict_items
from regionlm.errors import InputError
from training.curve import read_curve
from training.prefix import PrefixTrainingModule
from training.training_folder import TrainingFolder

from .fitting import RECIPE, fit_tiny, losses, same_weights
from .tiny import pairs, tiny_clipcap, tiny_projector

# What Lightning remarks on would reach a user of the Python API.
pytestmark = pytest.mark.filterwarnings(r"error::UserWarning:lightning\..*")

ROOT = Path(__file__).parents[2]

# --- what is trained


def test_training_learns_its_captions(tmp_path):
    model = tiny_clipcap()
    fit_tiny(model, tmp_path, replace(RECIPE, steps=80, noise=0.0, trains="all"))
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
    fit_tiny(model, tmp_path, replace(RECIPE, trains=trains))
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
    fit_tiny(model, tmp_path)
    changed = {n for n, v in model.state_dict().items() if not torch.equal(v, before[n])}
    assert changed and all(name.startswith("mappers.adapted.") for name in changed)


def test_lora_without_adapters_is_refused(tmp_path):
    with pytest.raises(PrefixModelError, match="add_lora"):
        fit_tiny(tiny_clipcap(), tmp_path, replace(RECIPE, trains="lora"))


def test_checkpoints_hold_what_is_trained_and_nothing_else(tmp_path):
    run = fit_tiny(tiny_clipcap(), tmp_path)
    names = torch.load(run.last_checkpoint(), weights_only=True)["state_dict"]
    assert names and all(name.startswith("model.mappers.") for name in names)


def test_checkpoints_hold_averages_of_what_is_trained_and_nothing_else(tmp_path):
    run = fit_tiny(tiny_clipcap(), tmp_path, callbacks=[EMAWeightAveraging(decay=0.5)])
    checkpoint = torch.load(run.last_checkpoint(), weights_only=True)
    sets = [set(one) for one in checkpoint.values() if isinstance(one, dict) and _weights(one)]
    module = PrefixTrainingModule(tiny_clipcap(), RECIPE, pairs())
    trained = {name for name, _ in module.named_parameters() if name.startswith("model.mappers.")}
    assert sets == [trained, trained]


def _weights(values):
    return all(isinstance(value, torch.Tensor) and value.ndim for value in values.values())


def test_weights_that_are_split_over_processes_are_stored_whole(tmp_path):
    """FSDP puts wrappers between the modules, and finds its own way through their state."""
    model = tiny_clipcap()
    module = PrefixTrainingModule(model, RECIPE, pairs())
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
        same_weights(wrapped, module)
        module.teardown("fit")
    finally:
        dist.destroy_process_group()
    assert all(parameter.requires_grad for parameter in module.parameters())


def test_validating_changes_nothing(tmp_path):
    """Dropout of a frozen language model stays off after it, too."""
    recipe = replace(RECIPE, validate_every=2)
    with_, without = tiny_clipcap(dropout=0.3), tiny_clipcap(dropout=0.3)
    a = fit_tiny(with_, tmp_path / "a", recipe, validation=pairs())
    b = fit_tiny(without, tmp_path / "b", recipe)
    assert losses(a) == losses(b) and len(losses(a)) == 12
    same_weights(with_, without, rtol=0, atol=0)
    plain = tiny_clipcap(dropout=0.0)
    assert losses(fit_tiny(plain, tmp_path / "c", recipe)) == losses(a)


# --- the same step, however it is split


def test_accumulation_is_the_larger_batch(tmp_path):
    one, four = tiny_clipcap(), tiny_clipcap()
    a = fit_tiny(one, tmp_path / "1", RECIPE)
    b = fit_tiny(four, tmp_path / "4", RECIPE, accumulate_grad_batches=4)
    assert losses(b) == pytest.approx(losses(a), abs=1e-6)
    same_weights(four, one, rtol=1e-4, atol=1e-5)


TWO = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import tests.training.test_prefix as t
from tests.training.tiny import tiny_clipcap, pairs
model = tiny_clipcap()
t.fit_tiny(model, Path(sys.argv[2]), t.UNEVEN, validation=pairs(), devices=2, strategy="ddp")
torch.save(model.state_dict(), Path(sys.argv[2]) / f"weights-{model.device}.pt")
"""
UNEVEN = replace(RECIPE, trains="all", batch_size=7, validate_every=4)


def test_two_processes_are_one(tmp_path):
    one = tiny_clipcap()
    alone = fit_tiny(one, tmp_path / "1", UNEVEN, validation=pairs())
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
    pair = TrainingFolder(both, {})
    assert losses(pair) == pytest.approx(losses(alone), abs=1e-6)
    validated = [row["val_loss"] for row in read_curve(pair.curve) if "val_loss" in row]
    expected = [row["val_loss"] for row in read_curve(alone.curve) if "val_loss" in row]
    assert len(expected) == 3 and validated == pytest.approx(expected, abs=1e-6)
    weights = torch.load(both / "weights-cpu.pt", weights_only=True)
    for name, value in one.state_dict().items():  # AdamW makes much of gradients close to 0
        torch.testing.assert_close(weights[name], value, rtol=1e-4, atol=5e-5)


def test_it_uses_the_cores_that_an_embedding_run_has_left_alone(tmp_path, monkeypatch):
    """Both in one program, as `regionlm train fit` does it."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before, seen = torch.get_num_threads(), set()

    class Watch(L.Callback):
        def on_train_batch_start(self, *args):
            seen.add(torch.get_num_threads())

    torch.set_num_threads(6)
    try:
        module = PredictModule([0], lambda device: lambda *_: {}, Journal(tmp_path / "run", {}))
        predict_items(new_trainer("cpu", 1), module, lambda: None)
        fit_tiny(tiny_clipcap(), tmp_path / "fit", callbacks=[Watch()])
    finally:
        torch.set_num_threads(before)
    assert seen == {6}


# --- bad input


def test_a_loss_that_is_not_finite_stops_the_run(tmp_path):
    model = tiny_clipcap()
    with torch.no_grad():
        next(model.mapper.parameters()).fill_(float("nan"))
    with pytest.raises(PrefixModelError, match=r"nan at step 0: lower recipe\.lr.*16-mixed$"):
        fit_tiny(model, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_loss_that_is_not_finite_after_a_step_asks_for_another_folder(tmp_path):
    recipe = replace(RECIPE, lr=1e30, warmup=0)
    with pytest.raises(PrefixModelError, match=r"at step [1-9].* another --output or delete this"):
        fit_tiny(tiny_clipcap(), tmp_path / "run", recipe)
    assert list((tmp_path / "run").iterdir())  # and other settings are refused there


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": None}, "either steps or epochs"),
        ({"epochs": 2}, "either steps or epochs"),
        ({"batch_size": 33}, "at most the number of pairs, 32"),
        ({"batch_size": 0}, ">= 1"),
    ],
)
def test_recipes_that_fit_no_data_are_refused(change, message):
    with pytest.raises(InputError, match=message):
        PrefixTrainingModule(tiny_clipcap(), replace(RECIPE, **change), pairs())


def test_epochs_count_full_batches():
    recipe = replace(RECIPE, steps=None, epochs=3, batch_size=10)
    assert PrefixTrainingModule(tiny_clipcap(), recipe, pairs()).steps == 9
