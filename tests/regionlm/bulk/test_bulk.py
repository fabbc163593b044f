"""Whole runs, with a bundle of random weights: answers, processes, kills, bad files."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest

from regionlm.bulk import caption_manifest
from regionlm.cli.main import main
from regionlm.distributed.run_folder import held
from regionlm.errors import InputError

Run = Callable[..., str]
Write = Callable[..., Path]
FIGURES = {"logprob", "dice", "iou", "cosine_to_image"}


def _read(output: Path) -> list[dict]:
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def output(tmp_path: Path) -> Path:
    return tmp_path / "out.jsonl"


# --- answers -------------------------------------------------------------------------------


def test_a_line_holds_what_is_promised(
    run: Run, write: Write, lines: list[dict], output: Path
) -> None:
    lines[3]["id"] = "fourth"
    said = run(write(lines), output)
    found = _read(output)
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
    [line] = _read(output)
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
    texts = [[row["caption"] for row in line["regions"]] for line in _read(output)]
    assert len(set(texts[0])) > 4 and texts[0] != texts[1]
    bad = {**same, "regions": [{"mask": "none.png", "id": 0}, *same["regions"][1:]]}
    run(write([bad, same]), tmp_path / "b", *options, "--seed", 1, "--skip_bad")
    found = [row.get("caption") for row in _read(tmp_path / "b")[0]["regions"]]
    assert found == [None, *texts[0][1:]]
    run(write([same, same]), tmp_path / "c", *options, "--seed", 2)
    assert [row["caption"] for row in _read(tmp_path / "c")[0]["regions"]] != texts[0]


def test_in_python(write: Write, lines: list[dict], output: Path, tiny_bundle: Path) -> None:
    options = {"model": str(tiny_bundle), "device": "cpu", "workers": 1, "progress": False}
    summary = caption_manifest(
        str(write(lines[:2])), output, embedder_options={"steps": 2}, max_new_tokens=3, **options
    )
    assert (summary.lines, summary.images, summary.regions) == (2, 2, 4)
    assert (summary.earlier, summary.bad, summary.named) == (0, 0, [])
    assert 0 < summary.seconds < 600 and len(_read(output)) == 2


# --- processes and kills -------------------------------------------------------------------

SLOW = ["--steps", 40]


@pytest.fixture
def alone(run: Run, write: Write, lines: list[dict], tmp_path: Path) -> Path:
    """One process, never stopped."""
    run(write(lines), tmp_path / "alone", *SLOW)
    return tmp_path / "alone"


@pytest.mark.parametrize(("processes", "done"), [(3, 0), (2, 6)])
def test_processes_change_no_byte(
    processes: int,
    done: int,
    alone: Path,
    refused: Run,
    start: Callable[..., subprocess.Popen],
    data: Path,
    output: Path,
) -> None:
    """Of two processes that go on after six lines, the second has nothing left to do."""
    if done:
        (data / f"{done}.png").rename(data / "hidden")
        refused(data / "m.jsonl", output, *SLOW)
        (data / "hidden").rename(data / f"{done}.png")
    process = start(data / "m.jsonl", output, *SLOW, "--devices", processes)
    said = process.communicate(timeout=500)[1]
    assert process.returncode == 0, said
    assert output.read_bytes() == alone.read_bytes()
    assert f"regions of {7 - done} images" in said and (f"; {done} images" in said) == bool(done)
    assert said.count("regions/s") == 1 and "Traceback" not in said


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z"
    except OSError:
        return False


def test_killed_and_started_again_it_ends_the_same(
    run: Run, start: Callable[..., subprocess.Popen], write: Write, lines: list[dict], output: Path
) -> None:
    """Two processes are killed, one goes on; what the first had started ends by itself."""
    manifest = write([{**line, "id": n} for n, line in enumerate(lines * 8)])
    run(manifest, output.with_name("whole"), "--steps", 100)
    process = start(manifest, output, "--steps", 100, "--devices", 2, "--workers", 1)
    parts = output.with_name("out.jsonl.parts")
    journals = [parts / f"answers-0000{n}.jsonl" for n in range(2)]
    deadline = time.monotonic() + 300
    while not all(journal.exists() and journal.stat().st_size for journal in journals):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.005)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(_alive(int(child)) for child in children):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    done = sum(journal.read_bytes().count(b"\n") for journal in journals)
    assert 2 <= done < 56 and children and not output.exists()
    with journals[0].open("ab") as file:  # and the kill may come in the middle of a line
        file.write(b'{"index": 55, "id": 5')
    assert f"; {done} images were done before" in run(manifest, output, "--steps", 100)
    assert output.read_bytes() == output.with_name("whole").read_bytes()
    assert not parts.exists()


@pytest.mark.parametrize(("number", "devices"), [(signal.SIGTERM, 2), (signal.SIGINT, 1)])
def test_asked_to_end_it_ends_and_keeps_what_is_done(
    number: signal.Signals,
    devices: int,
    start: Callable[..., subprocess.Popen],
    write: Write,
    lines: list[dict],
    output: Path,
) -> None:
    many = [{**line, "id": n} for n, line in enumerate(lines * 60)]
    process = start(write(many), output, "--steps", 100, "--devices", devices)
    journal = output.with_name("out.jsonl.parts") / "answers-00000.jsonl"
    deadline = time.monotonic() + 300
    while not (journal.exists() and journal.stat().st_size):
        assert time.monotonic() < deadline and process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    said = process.communicate(timeout=300)[1]  # it finishes the items at hand first
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert 1 <= journal.read_bytes().count(b"\n") < 210 and not output.exists()


def test_killed_after_the_output_was_written(
    alone: Path, run: Run, write: Write, lines: list[dict], output: Path, refused: Run
) -> None:
    """The last thing a run does is to remove its parts; before that, it is not finished."""
    bad = write([*lines[:-1], {**lines[-1], "image": "none.png"}], "bad.jsonl")
    refused(bad, output, *SLOW)
    shutil.copy(alone, output)
    said = run(bad, output, *SLOW, "--skip_bad")
    assert "6 images were done before; 1 skipped" in said
    assert _read(output)[:-1] == _read(alone)[:-1]
    assert not output.with_name("out.jsonl.parts").exists()


def test_an_error_in_one_process_stops_all_and_is_said_once(
    start: Callable[..., subprocess.Popen], write: Write, lines: list[dict], output: Path
) -> None:
    many = [{**line, "id": n} for n, line in enumerate(lines * 30)]
    many[1]["image"] = "none.png"  # the second process's first
    process = start(write(many), output, "--steps", 100, "--devices", 2)
    said = process.communicate(timeout=500)[1]
    assert process.returncode == 2
    [message] = [line for line in said.splitlines() if "error" in line]
    assert "m.jsonl, line 2: image" in message and "none.png does not exist" in message
    done = output.with_name("out.jsonl.parts").glob("answers-*.jsonl")
    assert sum(file.read_bytes().count(b"\n") for file in done) < 100
    assert "Traceback" not in said and not output.exists()


def test_a_second_run_of_one_output_is_refused(
    run: Run, refused: Run, write: Write, lines: list[dict], output: Path
) -> None:
    manifest, parts = write(lines), output.with_name("out.jsonl.parts")
    parts.mkdir()
    with held(parts):
        message = refused(manifest, output)
        assert f"another run is at work there (process {os.getpid()} on " in message
    run(manifest, output)
    assert len(_read(output)) == 7 and not parts.exists()


def test_a_run_that_another_has_finished_meanwhile_is_refused(
    write: Write,
    lines: list[dict],
    output: Path,
    argv: Callable[..., list[str]],
    monkeypatch,
    capfd,
) -> None:
    def finished_meanwhile(model: str) -> str:
        output.write_text("its")
        return ""

    monkeypatch.setattr("regionlm.pretrained.model_digests.model_digest", finished_meanwhile)
    assert main(argv(write(lines), output)) == 2
    assert "exists, from a finished run" in capfd.readouterr().err
    assert output.read_text() == "its" and not output.with_name("out.jsonl.parts").exists()


# --- bad files -----------------------------------------------------------------------------


def test_a_bad_image_stops_the_run_and_keeps_what_is_done(
    run: Run, refused: Run, write: Write, lines: list[dict], output: Path, data: Path
) -> None:
    shutil.move(data / "3.png", data / "hidden")
    message = refused(write(lines), output, "--workers", 1)
    assert "m.jsonl, line 4: image" in message and "3.png does not exist" in message
    shutil.move(data / "hidden", data / "3.png")
    assert "; 3 images were done before" in run(write(lines), output)
    assert len(_read(output)) == 7


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
        found, whole = _read(output), _read(tmp_path / "whole")
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


# --- refusals ------------------------------------------------------------------------------


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
    assert "give another --output, or delete it" in message
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
        (["--embedder", "crop", "--steps", 3], "--steps: an option of maskinversion"),
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
    assert "is a folder" in refused(write(lines), tmp_path)
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
    assert len(_read(output)) == 7
