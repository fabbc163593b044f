"""How many threads, and how they wait."""

import os
import subprocess
import sys

import pytest

from regionlm import threads


@pytest.fixture
def eight(monkeypatch):
    monkeypatch.setattr(threads, "bound_processors", lambda: 8)


def test_a_quota_of_either_kind_limits(eight, tmp_path):
    assert threads.available_processors(tmp_path) == 8
    (tmp_path / "cpu.max").write_text("max 100000\n")
    assert threads.available_processors(tmp_path) == 8
    (tmp_path / "cpu.max").write_text("150000 100000\n")
    assert threads.available_processors(tmp_path) == 2
    (tmp_path / "cpu.max").write_text("10000 100000\n")
    assert threads.available_processors(tmp_path) == 1
    (tmp_path / "cpu.max").write_text("9900000 100000\n")
    assert threads.available_processors(tmp_path) == 8


@pytest.mark.parametrize(("quota", "count"), [("-1", 8), ("300000", 3), ("0", 8), ("?", 8)])
def test_a_quota_of_version_1(quota, count, eight, tmp_path):
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu/cpu.cfs_quota_us").write_text(f"{quota}\n")
    (tmp_path / "cpu/cpu.cfs_period_us").write_text("100000\n")
    assert threads.available_processors(tmp_path) == count


def test_only_a_quota_sets_the_count(eight, monkeypatch):
    environment: dict[str, str] = {}
    monkeypatch.setattr(threads, "available_processors", lambda: 8)
    threads.limit_threads(environment)
    assert not environment and not threads.is_count_chosen(environment)
    monkeypatch.setattr(threads, "available_processors", lambda: 2)
    threads.limit_threads(environment)
    assert environment["OMP_NUM_THREADS"] == "2" and not threads.is_count_chosen(environment)
    chosen = {"OMP_NUM_THREADS": "5"}
    threads.limit_threads(chosen)
    assert chosen == {"OMP_NUM_THREADS": "5"} and threads.is_count_chosen(chosen)
    assert threads.is_count_chosen({**environment, "OMP_NUM_THREADS": "4"})


def test_torch_takes_the_count():
    code = (
        "from regionlm import threads; threads.available_processors = lambda: 1;"
        "threads.bound_processors = lambda: 8; threads.limit_threads();"
        "import torch; print(torch.get_num_threads())"
    )
    environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=True
    )
    assert done.stdout.strip() == "1"
