"""How many threads runs compute with, whatever Lightning makes of it."""

import os

import pytest
import torch

from regionlm.distributed.journal import Journal
from regionlm.distributed.predict_module import PredictModule
from regionlm.distributed.thread_counts import (
    prediction_threads,
    threads_each,
    threads_restored,
)
from regionlm.distributed.trainer import new_trainer, predict_items


@pytest.fixture(autouse=True)
def machine_of_six_cores(monkeypatch):
    """Nothing is chosen, and torch takes all cores."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    torch.set_num_threads(6)
    yield
    torch.set_num_threads(before)


def test_trainings_share_the_cores():
    assert [threads_each(processes) for processes in (1, 2, 4, 99)] == [6, 3, 1, 1]


def test_what_the_user_has_chosen_stands(monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "6")
    assert threads_each(2) == prediction_threads() == 6


def test_what_lightning_sets_goes_with_the_block():
    with threads_restored():
        os.environ["OMP_NUM_THREADS"] = "4"
        torch.set_num_threads(4)
    assert torch.get_num_threads() == 6 and "OMP_NUM_THREADS" not in os.environ


@pytest.mark.parametrize("chosen", [False, True])
def test_answers_do_not_depend_on_the_cores(chosen, tmp_path, monkeypatch):
    """One thread, unless the user says otherwise."""
    if chosen:
        monkeypatch.setenv("OMP_NUM_THREADS", "6")
    seen = []

    def prepare(device):
        seen.append(torch.get_num_threads())
        return lambda number, item: {"threads": torch.get_num_threads()}

    module = PredictModule([0, 1], prepare, Journal(tmp_path / "run", {}))
    predict_items(new_trainer("cpu", 1), module, lambda: None)
    answers = [answer["threads"] for _, answer in Journal(tmp_path / "run", {}).answers()]
    assert seen + answers == [6 if chosen else 1] * 3
    assert torch.get_num_threads() == 6
