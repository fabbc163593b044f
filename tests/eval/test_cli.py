"""Help and tables of finished runs come at once: nothing heavy is loaded for them."""

import json
import subprocess
import sys

import pytest

RUN = {
    "metrics": {"acc@1": 0.5},
    "paper": {},
    "counts": {"images": 1, "queries": 1, "bad_images": 0},
    "settings": {"task": "classes", "data": {"name": "mini"}, "embedder": {"name": "cls"}},
}
PROGRAM = """
import sys
from regionlm.cli.main import main
try:
    code = main(sys.argv[1:])
except SystemExit as exit:
    code = exit.code
heavy = {"torch", "lightning", "transformers", "open_clip", "matplotlib"} & set(sys.modules)
sys.exit(code or (f"loaded {heavy}" if heavy else 0))
"""


@pytest.mark.parametrize("options", [["eval", "--help"], ["report", "--help"], ["report", "."]])
def test_nothing_heavy_is_loaded(options, tmp_path):
    (tmp_path / "result.json").write_text(json.dumps(RUN))
    command = [sys.executable, "-c", PROGRAM, *options]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "usage:" in done.stdout or "| cls | 50.0 |" in done.stdout
