"""The GPU's benchmark runs with a tiny model on the CPU. Times are not judged."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "gpu.sh"


def run(*options):
    environment = {**os.environ, "PYTHON": sys.executable}
    command = ["bash", str(SCRIPT), "--device", "cpu", "--tiny", *options]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.long
def test_it_compares_and_measures_everything():
    done = run()
    assert done.returncode == 0, done.stderr
    assert "- vectors: equal" in done.stdout
    assert "- captions of mini: 6 of 6 equal" in done.stdout
    for way in ("exact", "fast", "exact, bfloat16 trunk", "fast, bfloat16 trunk"):
        for count in (1, 10):
            assert f"| tiny, 64 px | {way} | {count} | " in done.stdout
    assert "compiled trunk | " in done.stdout  # or why not
    for precision in ("float32", "bfloat16"):
        assert f"Bulk, mini, {precision} trunk: 12 regions of 4 images in " in done.stdout


@pytest.mark.long
def test_it_begins_nothing_when_the_time_is_up():
    done = run("--seconds", "0")
    assert done.returncode == 0, done.stderr
    assert "- not run, the time was up: tiny\n- not run, the time was up: bulk" in done.stdout
