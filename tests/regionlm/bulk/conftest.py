"""A folder of small pictures, and manifests about them."""

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regionlm.cli.main import main

PICTURES = 7  # neither two nor three processes divide them
ROOT = Path(__file__).parents[3]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Pictures 0.png to 6.png of 40 x 30 pixels of noise, a mask m.png, a label map labels.png."""
    folder = tmp_path / "data"
    folder.mkdir()
    random = np.random.default_rng(0)
    for number in range(PICTURES):
        pixels = random.integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 10:30] = 255
    Image.fromarray(mask).save(folder / "m.png")
    mask[:] = 0
    mask[:9, :9], mask[20:, 20:] = 1, 7
    Image.fromarray(mask).save(folder / "labels.png")
    return folder


@pytest.fixture
def write(data: Path) -> Callable[..., Path]:
    """Write a manifest beside the pictures: objects as JSON, text as it is."""

    def manifest(lines: Iterable[object], name: str = "m.jsonl") -> Path:
        texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
        (data / name).write_text("".join(text + "\n" for text in texts), encoding="utf-8")
        return data / name

    return manifest


@pytest.fixture
def lines() -> list[dict]:
    """A line for each picture, with regions of all forms."""
    regions = [
        [{"mask": "labels.png"}],
        [{"box": [0, 0, 20, 20]}, {"mask": "m.png", "id": "middle"}],
        [{"polygon": [[1, 1, 30, 1, 30, 25]]}],
        [{"rle": {"size": [30, 40], "counts": [100, 200, 900]}}],
        [{"box": [10, 5, 40, 30]}],
        [{"mask": "m.png"}, {"polygon": [5, 5, 20, 5, 20, 20], "id": 3}],
        [{"box": [2, 2, 39.5, 12]}],
    ]
    return [{"image": f"{n}.png", "regions": found} for n, found in enumerate(regions)]


@pytest.fixture
def argv(tiny_bundle: Path) -> Callable[..., list[str]]:
    """Arguments of the command."""

    def arguments(manifest: Path, output: Path, *options: object) -> list[str]:
        where = ["--model", tiny_bundle, "--device", "cpu", "--workers", 0]
        asked = ["caption", "--manifest", manifest, "--output", output, *where, *options]
        return [str(part) for part in asked]

    return arguments


@pytest.fixture
def run(argv: Callable[..., list[str]], capfd: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run the command in this process; return what it said on stderr."""

    def call(manifest: Path, output: Path, *options: object, code: int = 0) -> str:
        found = main(argv(manifest, output, *options))
        printed = capfd.readouterr()
        assert found == code, printed.err
        # The tests' cluster outlives the command, and Ray may say something of it afterwards.
        own = [line for line in printed.out.splitlines() if line.startswith(f"{output}: ")]
        assert len(own) == (code == 0)
        return printed.err

    return call


@pytest.fixture
def refused(run: Callable[..., str]) -> Callable[..., str]:
    """Run the command, expect its refusal, and return the message."""

    def call(manifest: Path, output: Path | str, *options: object) -> str:
        said = run(manifest, output, *options, code=2).rpartition("regionlm: error: ")[2]
        assert said.count("\n") == 1 and "Traceback" not in said
        assert not Path(output).is_file()
        return said

    return call


@pytest.fixture
def start(argv: Callable[..., list[str]]) -> Callable[..., subprocess.Popen]:
    """Start the command as a process; nothing says how many threads it may use."""

    def popen(manifest: Path, output: Path, *options: object) -> subprocess.Popen:
        command = [sys.executable, "-m", "regionlm", *argv(manifest, output, *options)]
        # A test run in the background of a shell ignores SIGINT, and so would its children.
        heed = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        return subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, preexec_fn=heed
        )

    return popen
