"""The comparison runs, and fails where a view's answer would cost a trunk forward."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_view_costs_no_trunk_forward():
    script = ROOT / "benchmarks" / "encode_once.py"
    command = [sys.executable, script, "--model", "tiny", "--size", "64", "--repeats", "1"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "asked of the image: 1 trunk" in done.stdout
    assert "asked of the view: 0 trunk" in done.stdout
