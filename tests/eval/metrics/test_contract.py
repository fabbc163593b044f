"""What every metric keeps: state that resets, pickles and adds up over processes."""

import doctest
import importlib
import math
import pickle
import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
import torch
from torchmetrics import Metric

import eval.metrics

COUNTS = (7, 1)  # updates that processes share; of one, all but the first process get none
WORDS = ["a", "caf\u00e9", "!"]


def _updates(name):
    """Updates of uneven sizes, seven of them: no number of processes divides them all."""
    generator = torch.Generator().manual_seed(3)

    def numbers(high, size):
        return torch.randint(0, high, (size,), generator=generator)

    def cosines(size):
        return torch.rand(size, generator=generator, dtype=torch.float64) * 1.2 - 0.2

    def text():
        return " ".join(WORDS[i] for i in numbers(len(WORDS), int(numbers(6, 1)) + 3))

    for size in (1, 5, 2, 7, 3, 4, 6):
        if name == "RetrievalAccuracy":
            yield (numbers(15, size),)
        elif name == "ExpectedAccuracy":
            yield (numbers(12, size), numbers(7, size) + 1)
        elif name == "SelectionIoU":
            both = numbers(50, size)
            yield (both, both + numbers(50, size))
        elif name == "CaptionAccuracy":
            yield (numbers(2, size).bool(), int(numbers(3, 1)) + 1)
        elif name == "ClipScore":
            yield (cosines(size), cosines(size))
        else:
            references = [[text() for _ in range(1 + i % 3)] for i in range(size)]
            yield ([text() for _ in range(size)], references)


METRICS = {name: getattr(eval.metrics, name) for name in eval.metrics.__all__}


def _values(metric):
    return {name: float(value) for name, value in metric.compute().items()}


def _filled(name, updates):
    metric = METRICS[name]()
    for update in updates:
        metric.update(*update)
    return metric


def test_every_metric_says_something_different():
    """So that the tests below can fail: no figure is at a bound for want of material."""
    assert all(issubclass(kind, Metric) for kind in METRICS.values())
    for name in METRICS:
        values = _values(_filled(name, _updates(name))).values()
        assert all(0 < value < METRICS[name].plot_upper_bound for value in values)


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


@pytest.mark.parametrize("module", ["caption", "clip_score", "retrieval", "selection", "text"])
def test_doctests(module):
    found = doctest.testmod(importlib.import_module(f"eval.metrics.{module}"))
    assert found.attempted and not found.failed


def _one_of(rank, world, results):
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{results}/store", rank=rank, world_size=world
    )
    for name, count in product(METRICS, COUNTS):
        metric = _filled(name, list(_updates(name))[:count][rank::world])
        Path(results, f"{name}-{count}-{rank}").write_text(repr(_values(metric)))
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize("world", [2, 3])
def test_processes_give_every_digit_of_one(world, tmp_path):
    """States differ in length between the ranks; the figures may not differ at all."""
    code = "import sys, test_contract as t; t._one_of(*map(int, sys.argv[1:3]), sys.argv[3])"
    command = [sys.executable, "-c", code]
    ranks = [
        subprocess.Popen(
            [*command, str(rank), str(world), str(tmp_path)],
            cwd=Path(__file__).parent,
        )
        for rank in range(world)
    ]
    assert [process.wait(timeout=300) for process in ranks] == [0] * world
    for name, count in product(METRICS, COUNTS):
        wanted = repr(_values(_filled(name, list(_updates(name))[:count])))
        for rank in range(world):
            assert (tmp_path / f"{name}-{count}-{rank}").read_text() == wanted
