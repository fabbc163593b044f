"""The trade-off's benchmark runs: its tables have a row for each number of rows. Times are not
judged."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.long
def test_tables_and_plot(tmp_path):
    plot = tmp_path / "images" / "speed.png"
    options = ["--model", "tiny", "--size", "64", "--rows", "8", "16", "--rough_start", "8"]
    options += ["--masks", "10", "--repeats", "1", "--mini", "1", "--plot", str(plot)]
    command = [sys.executable, str(ROOT / "benchmarks" / "speed.py"), *options]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    rows = [line.strip("|").split("|") for line in said.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in row] for row in rows]
    names = [row[:2] for row in cells if row[0] != "vectors"]
    assert names[:4] == [["exact", "65"], ["fast", "8"], ["fast", "16"], ["first step, too", "8"]]
    assert names[4:] == [["exact", "144"], ["fast", "8"], ["fast", "16"]]
    assert cells[1][4] == "1.0000" and 0.9 < float(cells[2][4]) < 1
    with Image.open(plot) as image:
        assert image.format == "PNG"
    assert plot.stat().st_size < 60_000
