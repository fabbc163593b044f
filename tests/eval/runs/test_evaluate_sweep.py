"""Whole sweeps on the bundled benchmark."""

import importlib
import json
import subprocess
import sys

import pytest
import yaml
from PIL import Image

from eval.runs.evaluate import evaluate
from eval.runs.sweep import evaluate_sweep
from regionlm.datasets.data_errors import DataError
from regionlm.errors import InputError
from tests.eval.runs.whole_runs import ONE_THREAD, ROOT, a_run


@pytest.fixture
def fonts_are_listed():
    """matplotlib keeps the list; whoever makes it says so on stderr if it takes long."""
    importlib.import_module("matplotlib.font_manager")


@pytest.mark.usefixtures("fonts_are_listed")
def test_sweeps_and_configs_from_the_command_line(tmp_path):
    config = {
        "task": "classes",
        "data": {"name": "mini", "workers": 0},
        "output": str(tmp_path / "sweep"),
        "limit": 2,
        "trainer": {"accelerator": "cpu", "progress": False},
        "sweep": {"embedder.name": ["cls", "crop"], "task": ["classes", "referring"]},
    }
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "regionlm", "eval", "--config", tmp_path / "run.yaml"]
    done = subprocess.run(command, check=True, env=ONE_THREAD, cwd=ROOT, capture_output=True)
    table, sweep = done.stdout.decode(), tmp_path / "sweep"
    assert table.count("## ") == 2 and table.count("\n| crop |") == 2
    assert table == (sweep / "report.md").read_text()
    assert done.stderr == b"", "nothing needs saying"
    result = json.loads((sweep / "result.json").read_text())
    assert len(result["runs"]) == 4 and result["sweep"] == config["sweep"]
    for folder, part in result["runs"].items():
        assert part == json.loads((sweep / folder / "result.json").read_text())
    with Image.open(sweep / "sweep.png") as picture:
        assert picture.width > 100
    again = subprocess.run(
        [sys.executable, "-m", "regionlm", "report", sweep],
        check=True, cwd=ROOT, capture_output=True,
    )  # fmt: skip
    assert again.stdout.decode() == table


def test_a_sweep_leaves_a_single_runs_folder_alone(tmp_path):
    before = evaluate(a_run(tmp_path / "run"))
    with pytest.raises(DataError, match="found a single run"):
        evaluate_sweep(a_run(tmp_path / "run", sweep={"embedder.options.steps": [1, 2]}))
    assert json.loads((tmp_path / "run/result.json").read_text()) == before


def test_all_folders_of_a_sweep_are_looked_at_before_its_first_run(tmp_path):
    (tmp_path / "run/limit-2").mkdir(parents=True)
    (tmp_path / "run/limit-2/letter.txt").write_text("dear")
    with pytest.raises(InputError, match=r"limit-2: .*letter\.txt"):
        evaluate_sweep(a_run(tmp_path / "run", sweep={"limit": [1, 2]}))
    assert not (tmp_path / "run/limit-1/result.json").exists()
