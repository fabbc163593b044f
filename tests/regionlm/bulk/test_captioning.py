"""Whole runs, with a bundle of random weights: what the output holds, and what is refused."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from regionlm.bulk import caption_manifest
from regionlm.cli.main import main
from regionlm.errors import InputError

from .whole_runs import Run, Write, read_output

FIGURES = {"logprob", "dice", "iou", "cosine_to_image"}


def test_a_line_holds_what_is_promised(
    run: Run, write: Write, lines: list[dict], output: Path
) -> None:
    lines[3]["id"] = "fourth"
    said = run(write(lines), output)
    found = read_output(output)
    assert [line["id"] for line in found] == [1, 2, 3, "fourth", 5, 6, 7]
    assert [line["image"] for line in found] == [line["image"] for line in lines]
    assert [[row["region"] for row in line["regions"]] for line in found] == [
        ["labels.png#1", "labels.png#7"],
        ["box 0,0,20,20", "middle"],
        ["polygon 0"],
        ["rle 0"],
        ["box 10,5,40,30"],
        ["m.png", "3"],
        ["box 2,2,39.5,12"],
    ]
    for row in (row for line in found for row in line["regions"]):
        assert set(row) == {"region", "caption"} | FIGURES
        assert row["caption"].strip() and row["logprob"] < 0 and 0 <= row["dice"] <= 1
    assert "regionlm: 10 regions of 7 images in " in said
    assert " regions/s, " in said and " images/s" in said
    assert "7/7" in said  # the bar
    assert not output.with_name("out.jsonl.parts").exists()


def test_every_line_says_that_it_is_fast(
    run: Run, write: Write, lines: list[dict], output: Path
) -> None:
    run(write(lines[:2]), output, "--speed", "fast")
    assert [line["speed"] for line in read_output(output)] == ["fast", "fast"]


def test_every_line_says_that_the_trunk_was_in_half_precision(
    run: Run, write: Write, lines: list[dict], output: Path
) -> None:
    run(write(lines[:2]), output, "--precision", "bfloat16")
    assert [line["precision"] for line in read_output(output)] == ["bfloat16", "bfloat16"]


@pytest.mark.parametrize(
    "options", [["--steps", 5], ["--embedder", "crop", "--size", 24, "--decoding", "beam"]]
)
def test_answers_are_those_of_one_image_at_a_time(
    options: list,
    run: Run,
    write: Write,
    output: Path,
    data: Path,
    tiny_bundle: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    regions = [{"mask": "labels.png"}, {"box": [0, 0, 20, 20]}]
    run(write([{"image": "0.png", "regions": regions}]), output, *options)
    [line] = read_output(output)
    single = ["caption", data / "0.png", "--mask", data / "labels.png", "--box", "0,0,20,20"]
    assert main([*map(str, [*single, "--json", "--model", tiny_bundle, *options])]) == 0
    wanted = json.loads(capfd.readouterr().out)["regions"]
    for row, one in zip(line["regions"], wanted, strict=True):
        assert row["caption"] == one["caption"]
        for figure in FIGURES:  # threads may differ
            assert row[figure] == pytest.approx(one[figure], abs=1e-5)


def test_regions_sample_with_seeds_of_their_own(
    run: Run, write: Write, output: Path, tmp_path: Path
) -> None:
    same = {"image": "0.png", "regions": [{"box": [0, 0, 20, 20], "id": n} for n in range(8)]}
    options = ["--decoding", "sample", "--max_new_tokens", 8]
    run(write([same, same]), output, *options, "--seed", 1)
    texts = [[row["caption"] for row in line["regions"]] for line in read_output(output)]
    assert len(set(texts[0])) > 4 and texts[0] != texts[1]
    bad = {**same, "regions": [{"mask": "none.png", "id": 0}, *same["regions"][1:]]}
    run(write([bad, same]), tmp_path / "b", *options, "--seed", 1, "--skip_bad")
    found = [row.get("caption") for row in read_output(tmp_path / "b")[0]["regions"]]
    assert found == [None, *texts[0][1:]]
    run(write([same, same]), tmp_path / "c", *options, "--seed", 2)
    assert [row["caption"] for row in read_output(tmp_path / "c")[0]["regions"]] != texts[0]


def test_in_python(write: Write, lines: list[dict], output: Path, tiny_bundle: Path) -> None:
    options = {"model": str(tiny_bundle), "device": "cpu", "workers": 1, "progress": False}
    summary = caption_manifest(
        str(write(lines[:2])), output, embedder_options={"steps": 2}, max_new_tokens=3, **options
    )
    assert (summary.lines, summary.images, summary.regions) == (2, 2, 4)
    assert (summary.earlier, summary.bad, summary.named) == (0, 0, [])
    assert 0 < summary.seconds < 600 and len(read_output(output)) == 2


def test_a_finished_output_is_left_alone(
    run: Run, write: Write, lines: list[dict], output: Path
) -> None:
    output.write_text("mine")
    assert "exists" in run(write(lines), output, code=2)
    assert output.read_text() == "mine"


def test_other_settings_do_not_mix(
    run: Run, refused: Run, write: Write, lines: list[dict], output: Path
) -> None:
    bad = [*lines[:2], {**lines[2], "image": "none.png"}]
    refused(write(bad), output, "--steps", 2)
    message = refused(write(bad), output, "--steps", 3)
    assert "embedder_options.steps was 2, is 3" in message
    assert "give another --output, or delete the folder" in message
    assert "manifest was" in refused(write(bad[:2]), output, "--steps", 2)
    run(write(bad), output, "--steps", 2, "--skip_bad")  # decides no caption


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prefix", "nonsense"], "no prefix named 'nonsense'"),
        (["--max_new_tokens", 0], "max_new_tokens"),
        (["--size", 7], "size"),
        (["--model", "nonsense"], "'nonsense'"),
        (["--devices", 0], "devices: expected at least 1, found 0"),
        (["--workers", -1], "workers: expected at least 0, found -1"),
        (["--device", "cuda:99"], "cuda:99"),
        (["--embedder", "crop", "--steps", 3], "--steps is an option of maskinversion"),
        (["--mask", "m.png"], "--mask goes with an image, not with --manifest"),
        (["--box", "0,0,9,9"], "--box goes with an image, not with --manifest"),
        (["--heatmap", "h.png"], "--heatmap goes with an image, not with --manifest"),
        (["--json"], "--json goes with an image, not with --manifest"),
        (["0.png"], "--manifest: found the image 0.png as well"),
    ],
)
def test_bad_options_leave_nothing_behind(
    options: list, message: str, refused: Run, write: Write, lines: list[dict], output: Path
) -> None:
    assert message in refused(write(lines), output, *options)
    assert not list(output.parent.glob("out.jsonl*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ([], "no image given: add its file, or --manifest FILE"),
        (["--manifest", "m.jsonl"], "--manifest: no file for the captions given; add --output"),
        (["0.png", "--output", "o.jsonl"], "--output goes with --manifest"),
        (["0.png", "--devices", "2"], "--devices goes with --manifest"),
        (["0.png", "--workers", "0"], "--workers goes with --manifest"),
        (["0.png", "--skip_bad"], "--skip_bad goes with --manifest"),
    ],
)
def test_options_that_lack_another(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["caption", *options]) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"regionlm: error: {message}") and said.count("\n") == 1


def test_an_output_that_cannot_be_written(
    refused: Run, write: Write, lines: list[dict], tmp_path: Path
) -> None:
    assert "does not exist: create it" in refused(write(lines), tmp_path / "none/out.jsonl")
    for folder in (tmp_path, ".", "/"):
        assert "is a folder" in refused(write(lines), folder)
    assert "no name given" in refused(write(lines), "")
    (tmp_path / "o.jsonl.parts").write_text("a file where the parts should be")
    assert "o.jsonl.parts cannot be written" in refused(write(lines), tmp_path / "o.jsonl")


def test_bad_manifests_are_answered_before_torch_is_loaded(write: Write, tmp_path: Path) -> None:
    manifest = write([{"image": "0.png"}])
    code = (
        "import sys\nfrom regionlm.cli.main import main\n"
        f"print(main(['caption', '--manifest', {str(manifest)!r}, '--output',"
        f" {str(tmp_path / 'o')!r}]), {{'torch', 'lightning'}} & set(sys.modules))"
    )
    root = Path(__file__).parents[3]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=root)
    assert done.stdout == "2 set()\n"
    assert "line 1: regions: expected" in done.stderr and not (tmp_path / "o.parts").exists()


def test_the_extra_to_install_is_named(
    write: Write, lines: list[dict], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "lightning", None)
    with pytest.raises(InputError, match=r'needs lightning, .* pip install "regionlm\[bulk\]"'):
        caption_manifest(write(lines), output)
    assert not list(output.parent.glob("out.jsonl*"))


def test_an_output_on_a_full_disk_keeps_what_is_done(
    write: Write, lines: list[dict], output: Path, run: Run, refused: Run, monkeypatch
) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("regionlm.bulk.output.os", SimpleNamespace(fsync=full))
        message = refused(write(lines), output)
    assert "cannot be written: No space left on device" in message
    assert os.listdir(output.parent).count("out.jsonl") == 0
    run(write(lines), output)
    assert len(read_output(output)) == 7
