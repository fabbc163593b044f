"""What every metric keeps: state that resets, pickles and adds up over processes."""

import doctest
import importlib
import math
import pickle
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torchmetrics import Metric

from eval.metrics import CaptionAccuracy, RetrievalAccuracy, SelectionIoU


def _updates(name):
    """Updates of uneven sizes, seven of them: no number of processes divides them all."""
    generator = torch.Generator().manual_seed(3)

    def numbers(high, size):
        return torch.randint(0, high, (size,), generator=generator)

    for size in (1, 5, 2, 7, 3, 4, 6):
        if name == "RetrievalAccuracy":
            yield (numbers(15, size),)
        elif name == "SelectionIoU":
            both = numbers(50, size)
            yield (both, both + numbers(50, size))
        else:
            yield (numbers(2, size).bool(), int(numbers(3, 1)) + 1)


METRICS = {kind.__name__: kind for kind in (CaptionAccuracy, RetrievalAccuracy, SelectionIoU)}


def _values(metric):
    return {name: float(value) for name, value in metric.compute().items()}


def _filled(name, updates):
    metric = METRICS[name]()
    for update in updates:
        metric.update(*update)
    return metric


def test_every_metric_is_here():
    module = importlib.import_module("eval.metrics")
    assert {getattr(module, name) for name in module.__all__} == set(METRICS.values())
    assert all(issubclass(kind, Metric) for kind in METRICS.values())


@pytest.mark.parametrize("name", METRICS)
def test_reset_forgets(name):
    updates = list(_updates(name))
    metric = _filled(name, updates)
    metric.reset()
    metric.update(*updates[1])
    assert _values(metric) == _values(_filled(name, updates[1:2]))


@pytest.mark.parametrize("name", METRICS)
def test_pickled_state_goes_on(name):
    updates = list(_updates(name))
    metric = pickle.loads(pickle.dumps(_filled(name, updates[:3])))
    for update in updates[3:]:
        metric.update(*update)
    assert _values(metric) == _values(_filled(name, updates))


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_nothing_counted_is_nan(name):
    assert all(math.isnan(value) for value in _values(METRICS[name]()).values())


@pytest.mark.parametrize("name", METRICS)
def test_plot(name):
    pytest.importorskip("matplotlib")
    figure, axes = _filled(name, _updates(name)).plot()
    assert figure is not None and axes is not None


@pytest.mark.parametrize("module", ["caption", "retrieval", "selection"])
def test_doctests(module):
    found = doctest.testmod(importlib.import_module(f"eval.metrics.{module}"))
    assert found.attempted and not found.failed


def _one_of(rank, world, port, results):
    torch.distributed.init_process_group(
        "gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=world
    )
    for name in METRICS:
        metric = _filled(name, list(_updates(name))[rank::world])
        Path(results, f"{name}-{world}-{rank}").write_text(repr(_values(metric)))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_processes_give_every_digit_of_one(world, tmp_path):
    """States differ in length between the ranks; the figures may not differ at all."""
    code = "import sys, test_contract as t; t._one_of(*map(int, sys.argv[1:4]), sys.argv[4])"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", code]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(world), str(port), str(tmp_path)],
            cwd=Path(__file__).parent,
        )
        for rank in range(world)
    ]
    assert [process.wait(timeout=300) for process in ranks] == [0] * world
    for name in METRICS:
        wanted = repr(_values(_filled(name, _updates(name))))
        for rank in range(world):
            assert (tmp_path / f"{name}-{world}-{rank}").read_text() == wanted
