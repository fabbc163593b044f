"""The benchmark of clicks runs, and clicks mark more of the thing than of what is around it."""

import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "clicks.py"


def test_two_scenes():
    command = [sys.executable, str(SCRIPT), "--scenes", "2"]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "clicks in 2 scenes" in said
    assert 0.5 < float(said.partition("mean ")[2].partition(",")[0]) <= 1
