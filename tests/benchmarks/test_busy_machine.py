"""The comparison of an idle machine with a busy one runs, and judges by its bar."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(*options):
    script = ROOT / "benchmarks" / "busy_machine.py"
    small = ["--model", "tiny", "--size", "64", "--masks", "1", "--repeats", "1"]
    command = [sys.executable, script, *small, "--policies", "sleep", *options]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True)


@pytest.mark.long
def test_each_situation_is_timed():
    done = _run("--bar", "1000")
    assert done.returncode == 0, done.stderr
    cells = done.stdout.split("|---|---|---|---|---|")[1].split("|")
    assert cells[1].strip() == "1" and all(float(cell) > 0 for cell in cells[2:5])


@pytest.mark.long
def test_the_bar_decides():
    assert _run("--bar", "0").returncode == 1
