"""How Lightning's trainer ends, and what it remarks on."""

import signal
import warnings

import lightning as L
import numpy as np
import pytest

from regionlm.distributed.compat import interruptible, mistakes_named
from regionlm.distributed.journal import Journal
from regionlm.distributed.predict_module import PredictModule
from regionlm.distributed.trainer import new_trainer, predict_items
from regionlm.errors import InputError


class Asked(L.LightningModule):
    """Raises an error at its only item."""

    def __init__(self, error):
        super().__init__()
        self.error = error

    def predict_dataloader(self):
        return [0]

    def predict_step(self, batch, number):
        if self.error is not None:
            raise self.error
        return number


@pytest.fixture
def signals():
    """Lightning ignores SIGINT after the first."""
    before = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, before)


def test_an_interrupt_is_one(signals):
    trainer = new_trainer("cpu", 1)
    with pytest.raises(KeyboardInterrupt), interruptible(trainer):
        trainer.predict(Asked(KeyboardInterrupt()), return_predictions=False)


def test_other_errors_stay_as_they_are():
    trainer = new_trainer("cpu", 1)
    with pytest.raises(ValueError, match=r"^x$"), interruptible(trainer):
        trainer.predict(Asked(ValueError("x")), return_predictions=False)


def test_a_run_to_the_end_raises_nothing():
    trainer = new_trainer("cpu", 1)
    with interruptible(trainer):
        trainer.predict(Asked(None), return_predictions=False)


@pytest.mark.parametrize(
    "options", [{"devices": 0}, {"devices": "many"}, {"accelerator": "abacus"}, {"precision": "8"}]
)
def test_arguments_that_lightning_refuses_are_one_line(options):
    with pytest.raises(InputError, match=r"^trainer: ."), mistakes_named("trainer"):
        L.Trainer(**{"accelerator": "cpu", "logger": False, **options})


@pytest.mark.parametrize("workers", [0, 2])
def test_lightning_has_nothing_to_remark_on(workers, tmp_path):
    """Neither on how items are read nor on shares that are empty."""
    loaded = []

    def prepare(device):
        loaded.append(device)
        return lambda number, item: {"value": int(item)}

    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=UserWarning, module=r"lightning\.")
        for _ in range(2):
            journal = Journal(tmp_path / "run", {})
            module = PredictModule(np.arange(3), prepare, journal, workers=workers)
            predict_items(new_trainer("cpu", 1), module, lambda: None)
            assert journal.done().tolist() == [0, 1, 2]
    assert len(loaded) == 1, "no model is loaded where nothing is left to do"
