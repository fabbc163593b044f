"""The load benchmark runs, and every reply is the Python API's."""

import sys

import pytest

from benchmarks import serve_load


@pytest.mark.long
def test_a_short_run_of_all_loads_finds_no_difference(monkeypatch, capsys):
    argv = ["serve_load.py", "--clients", "1", "4", "--requests", "8"]
    monkeypatch.setattr(sys, "argv", [*argv, "--only", "distinct", "repeated", "memory"])
    assert serve_load.main() == 0
    printed = capsys.readouterr().out
    rows = [line.split("|") for line in printed.splitlines() if line.startswith("| ")]
    assert [row[1].strip() for row in rows] == [
        "load",
        *2 * ["distinct"],
        *2 * ["repeated"],
        "memory",
    ]
    assert "times one at a time" in printed and "resident MiB" in printed


def test_another_caption_is_a_difference():
    row = {"caption": "a", "logprob": 0.0, "dice": 0.5, "iou": 0.5, "cosine_to_image": 0.5}
    assert not serve_load.differs([row], [{**row, "dice": 0.5001}])
    assert serve_load.differs([row], [{**row, "caption": "b"}])
    assert serve_load.differs([row], [{**row, "dice": 0.6}])
    assert serve_load.differs([row], [])
