"""Images and regions that can't be read, and models that are not those of the first start."""

import io
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from regionlm.cli.main import main

from .whole_runs import Run, Write, read_output


def test_a_bad_image_stops_the_run_and_keeps_what_is_done(
    run: Run, refused: Run, write: Write, lines: list[dict], output: Path, data: Path
) -> None:
    shutil.move(data / "3.png", data / "hidden")
    message = refused(write(lines), output, "--workers", 1)
    assert "m.jsonl, line 4: image" in message and "3.png does not exist" in message
    shutil.move(data / "hidden", data / "3.png")
    assert "; 3 images were done before" in run(write(lines), output)
    assert len(read_output(output)) == 7


@pytest.mark.parametrize("is_terminal", [False, True])
def test_no_progress_bar_stands_in_front_of_an_error(
    write: Write,
    lines: list[dict],
    output: Path,
    argv: Callable[..., list[str]],
    monkeypatch: pytest.MonkeyPatch,
    is_terminal: bool,
) -> None:
    stderr = io.StringIO()
    monkeypatch.setattr(stderr, "isatty", lambda: is_terminal, raising=False)
    monkeypatch.setattr(sys, "stderr", stderr)
    lines[2]["image"] = "none.png"
    assert main(argv(write(lines), output, "--steps", 1)) == 2
    said = stderr.getvalue()
    assert said.count("regionlm: error: ") == 1
    assert "\rcaptions: " in said and "43%" not in said
    *before, last = said.removesuffix("\n").split("\n")[-1].split("\r")
    assert last.startswith("regionlm: error: ")
    assert not before[-1:] or before[-1].isspace()  # what the bar had written is wiped out


def test_bad_files_are_read_again_by_each_start(
    run: Run, refused: Run, write: Write, lines: list[dict], output: Path, data: Path, monkeypatch
) -> None:
    manifest = write(lines)
    run(manifest, output.with_name("whole"))
    for name in ("3.png", "m.png"):  # the image of one line, a region of two
        shutil.move(data / name, data / f"hidden-{name}")

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("regionlm.bulk.output.os", SimpleNamespace(fsync=full))
        refused(manifest, output, "--skip_bad")
    assert "m.png does not exist" in refused(manifest, output)
    said = run(manifest, output, "--skip_bad")
    assert "; 4 images were done before; 3 skipped" in said
    output.unlink()
    with monkeypatch.context() as patch:
        patch.setattr("regionlm.bulk.output.os", SimpleNamespace(fsync=full))
        refused(manifest, output, "--skip_bad")
    for name in ("3.png", "m.png"):
        shutil.move(data / f"hidden-{name}", data / name)
    said = run(manifest, output)
    assert "; 4 images were done before" in said and "skipped" not in said
    assert output.read_bytes() == output.with_name("whole").read_bytes()


def test_another_model_of_that_name_does_not_go_on(
    run: Run, refused: Run, write: Write, lines: list[dict], output: Path, data: Path,
    tiny_bundle: Path, tmp_path: Path,
) -> None:  # fmt: skip
    model = tmp_path / "model"
    shutil.copytree(tiny_bundle, model)
    shutil.move(data / "3.png", data / "hidden")
    refused(write(lines), output, "--model", model)
    shutil.move(data / "hidden", data / "3.png")
    config = (model / "config.json").read_bytes()
    (model / "config.json").write_bytes(config + b"\n")
    message = refused(write(lines), output, "--model", model)
    assert "other settings (digests.model was " in message
    (model / "config.json").write_bytes(config)
    assert "; 3 images were done before" in run(write(lines), output, "--model", model)


def test_a_checkpoint_of_the_embedder_counts(tmp_path: Path) -> None:
    from regionlm.pretrained.model_digests import option_digests

    (tmp_path / "a.pth").write_bytes(b"weights")
    options = {"checkpoint": str(tmp_path / "a.pth"), "size": 64, "score": "no\0file"}
    before = option_digests(options)
    assert list(before) == ["embedder.checkpoint"]
    (tmp_path / "a.pth").write_bytes(b"others")
    assert option_digests({"checkpoint": tmp_path / "a.pth"}) != before


def test_bad_files_can_be_skipped_and_are_named(
    run: Run, write: Write, lines: list[dict], output: Path, tmp_path: Path
) -> None:
    run(write(lines), tmp_path / "whole")
    lines[1]["regions"][0] = {"box": [0, 0, 400, 20], "id": "far"}
    lines[2]["regions"] = [{"rle": {"size": [9, 9], "counts": [81]}}]
    lines[5]["image"] = "none.png"
    for options in ([], ["--workers", 1]):
        output.unlink(missing_ok=True)
        said = run(write(lines), output, "--skip_bad", *options)
        assert "6 regions of 6 images" in said and said.rstrip().endswith("; 3 skipped")
        for place in ("line 2, region far: box", "line 3, region rle 0: region", "line 6: image"):
            assert f"regionlm: skipped: {tmp_path}/data/m.jsonl, {place}" in said
        found, whole = read_output(output), read_output(tmp_path / "whole")
        assert set(found[5]) == {"id", "image", "error"} and found[5]["id"] == 6
        assert "none.png does not exist" in found[5]["error"]
        assert [set(row) for row in found[2]["regions"]] == [{"region", "error"}]
        assert set(found[1]["regions"][0]) == {"region", "error"}
        # batches differ by a region, hence the last digits
        assert found[1]["regions"][1]["caption"] == whole[1]["regions"][1]["caption"]
        assert [found[n] for n in (0, 3, 4, 6)] == [whole[n] for n in (0, 3, 4, 6)]


def test_of_many_bad_files_a_few_are_named(run: Run, write: Write, output: Path) -> None:
    lines = [{"image": f"none{n}.png", "regions": [{"mask": "m.png"}]} for n in range(30)]
    said = run(write(lines), output, "--skip_bad")
    assert said.count("does not exist") == 20
    assert "10 more, see the errors in" in said and "30 skipped" in said
