"""The engine's benchmark runs and keeps what it found. Times are not judged."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def judge(monkeypatch):
    """Run the script in this process, for what needs no measurement; its exit code."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import engine

    def run(*options):
        monkeypatch.setattr(sys, "argv", ["engine.py", *options])
        return engine.main()

    return run


def test_cases_are_kept(tmp_path, judge):
    keep = tmp_path / "kept" / "engine.json"
    keep.parent.mkdir()
    side = {"seconds": [[60.0, 50.0, 70.0], [6.0, 5.0, 7.0]], "extra_gib": [4.0, 0.4]}
    kept = {"b16-100": {**side, "threads": 2, "load": 0.5}}
    kept["b16-100"] |= {"cosine": 0.9995, "median_cosine": 1.0}
    keep.write_text(json.dumps(kept))
    options = ["--keep", str(keep), "--model", "tiny", "--size", "64", "--threads", "1"]
    options += ["--case", "rates", "growth", "b16-100"]
    command = [sys.executable, str(BENCHMARKS / "engine.py"), *options]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    line = next(line for line in done.stdout.splitlines() if line.startswith("| b16-100"))
    assert "600.00 (10 x 60.00) | 6.00 | **100.00** | >= 14 | 40.00 | 0.40 | **0.010**" in line
    assert "| loop, 10 masks |" in done.stdout and "- tokens, 2 masks: 17: " in done.stdout
    assert set(json.loads(keep.read_text())) == {"rates", "growth", "b16-100"}
    options = ["--keep", str(keep), "--case", "b16-100"]
    for cosines in ({"cosine": 0.9}, {"median_cosine": 0.9999}):
        keep.write_text(json.dumps({"b16-100": {**kept["b16-100"], **cosines}}))
        assert judge(*options) == 1


def test_fast_vectors_may_differ_somewhat(tmp_path, judge, capsys):
    keep = tmp_path / "engine.json"
    side = {"seconds": [[60.0], [3.0]], "extra_gib": [4.0, 0.4], "threads": 2, "load": 0.5}
    for mean, least, wrong in ((0.99, 0.975, 0), (0.975, 0.975, 1), (0.99, 0.96, 1)):
        kept = {**side, "cosine": least, "mean_cosine": mean}
        keep.write_text(json.dumps({"b16-10-fast": kept}))
        assert judge("--keep", str(keep), "--case", "b16-10-fast") == wrong
        said = capsys.readouterr().out
        assert f"{least:.8f}, mean {mean:.4f} | 60.00 | 3.00 | **20.00** | >= 20 |" in said
