"""The runtime benchmark runs, and what it times gives the same vectors. Times are not judged."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
SCRIPT = [sys.executable, str(BENCHMARKS / "runtime.py")]


@pytest.fixture
def published(monkeypatch):
    """The package beside the scripts; benchmarks are not installed."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import published.autograd_side
    import published.cases
    import published.our_side

    return published


@pytest.fixture
def refused(monkeypatch, capsys):
    """Call it with options that the script refuses; what it says."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import runtime

    def refuse(*options):
        with pytest.raises(SystemExit) as ended:
            runtime.parse_options(options)
        assert ended.value.code == 2
        return capsys.readouterr().err

    return refuse


@pytest.mark.parametrize("alpha", [0.0, 5.0])
def test_both_sides_do_the_same_work(alpha, published):
    row = published.cases.Row("tiny", 64, 3, alpha, 0.5, steps=4, dtype="float64")
    sides = (published.our_side.OurMaskInversion, published.autograd_side.AutogradMaskInversion)
    ours, autograd = (side(row.model, row.size, row.dtype).invert(row) for side in sides)
    for name in ("let", "map"):
        np.testing.assert_allclose(ours[name], autograd[name], atol=1e-6, rtol=0)
    assert np.ptp(ours["map"], axis=(1, 2)).min() > 0.5  # there is something to compare


def test_more_than_ten_masks_all_differ(published):
    masks = published.cases.mask_arrays(100)
    assert masks.shape == (100, *published.cases.IMAGE_HW) and masks.any((1, 2)).all()
    assert len({mask.tobytes() for mask in masks}) == 100
    np.testing.assert_array_equal(masks[:10], published.cases.mask_arrays(10))


@pytest.mark.long
def test_curves_over_masks_and_tokens(tmp_path):
    options = ["--model", "tiny", "--size", "64", "--masks", "5", "1", "--sizes", "112"]
    options += ["--token_masks", "2", "--steps", "2", "--repeats", "2", "--threads", "1"]
    options += ["--sides", "autograd", "regionlm", "--output", str(tmp_path / "out")]
    done = subprocess.run([*SCRIPT, *options], check=True, capture_output=True, text=True)
    result = json.loads((tmp_path / "out/runtime.json").read_text())
    assert [point["masks"] for point in result["by_masks"]] == [1, 5]
    assert [point["tokens"] for point in result["by_tokens"]] == [(112 // 8) ** 2 + 1]
    for point in result["by_masks"] + result["by_tokens"]:
        assert np.shape(point["seconds"]) == (2, 2) and np.min(point["seconds"]) > 0
        assert min(point["peak_gib"]) > 0
    text = (tmp_path / "out/runtime.md").read_text()
    assert done.stdout == text
    five = next(line for line in text.splitlines() if line.startswith("| 5 |"))
    assert five.endswith("| 0.10 | 0.13 |")  # the paper's row
    for name in ("masks.png", "tokens.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.format == "PNG" and len(np.unique(np.array(picture))) > 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--size", "100"], "multiples of 16 pixels, found 100"),
        (["--masks", "0"], "expected 1 or more, found 0"),
        (["--model", "nothing"], "nothing"),
    ],
)
def test_bad_options(options, message, tmp_path, refused):
    assert message in refused("--output", str(tmp_path / "out"), *options)
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file(tmp_path, refused):
    (tmp_path / "out").write_text("")
    assert "cannot be made a folder" in refused("--output", str(tmp_path / "out"))
