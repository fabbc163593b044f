"""Manifests captioned on a Ray cluster: the records are those of the other way."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray.data

from regionlm.bulk import caption_manifest
from regionlm.bulk.on_ray import _ended
from regionlm.cli.main import main
from regionlm.distributed.journal import Journal, journal_line
from regionlm.errors import InputError
from tests.regionlm.ray_cluster import started

from .packed import tar_of, without_files
from .whole_runs import Run, Write


@pytest.fixture(scope="module")
def cluster(ray_cluster: None) -> None:
    """The cluster, for Ray Data."""
    ray.data.DataContext.get_current()  # warns of options of its own; this is not a test's fault


@pytest.fixture(autouse=True)
def one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The last digits depend on it, and both ways take it from here."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")


@pytest.mark.long
def test_a_lost_workers_lines_are_done_again(
    cluster: None, run: Run, write: Write, lines: list[dict], output: Path
) -> None:
    lines[1]["regions"].append({"mask": "none.png"})
    lines[4]["image"] = "none.png"
    manifest = write([{**line, "id": n} for n, line in enumerate(lines * 6)])
    options = ["--steps", 20, "--skip_bad"]
    whole = output.with_name("whole.jsonl")
    run(manifest, whole, *options)
    killed: list[int] = []
    parts, over = output.with_name("out.jsonl.parts"), threading.Event()

    def kill_one() -> None:
        while not over.is_set() and not killed:
            if list(parts.glob("answers-*")):
                killed.extend(started("Caption")[:1])
                for one in killed:
                    os.kill(one, signal.SIGKILL)
            time.sleep(0.01)

    killer = threading.Thread(target=kill_one)
    killer.start()
    try:
        said = run(manifest, output, *options, "--devices", 2, "--ray")
    finally:
        over.set()
        killer.join()
    assert killed
    assert output.read_bytes() == whole.read_bytes() and not parts.exists()
    assert "of 36 images" in said and "; 12 skipped" in said


@pytest.mark.long
def test_a_run_is_resumed_either_way(
    cluster: None, run: Run, refused: Run, write: Write, lines: list[dict], data: Path, output: Path
) -> None:
    """By finished shard; the error of a worker is one line."""
    run(write(lines), output.with_name("whole.jsonl"))
    (data / "6.png").rename(data / "hidden")
    message = refused(data / "m.jsonl", output, "--ray")
    assert message.startswith(f"{data}/m.jsonl, line 7: image {data}/6.png does not exist")
    (data / "hidden").rename(data / "6.png")
    shards = list(output.with_name("out.jsonl.parts").glob("answers-*"))
    done = sum(len(shard.read_bytes().splitlines()) for shard in shards)
    assert 0 < done < 7
    other = output.with_name("other.jsonl")
    shutil.copytree(output.with_name("out.jsonl.parts"), output.with_name("other.jsonl.parts"))
    assert f"; {done} images were done" in run(data / "m.jsonl", output, "--ray")
    assert output.read_bytes() == output.with_name("whole.jsonl").read_bytes()
    assert f"; {done} images were done" in run(data / "m.jsonl", other)
    assert other.read_bytes() == output.read_bytes()


def test_tar_files_to_parquet_with_relative_paths(
    cluster: None,
    lines: list[dict],
    data: Path,
    tiny_bundle: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model").symlink_to(tiny_bundle)
    tar_of(data / "0.tar", data, without_files(lines))
    options = {"model": "model", "device": "cpu", "progress": False}
    for name, where in (("a.parquet", {"ray": True}), ("b.parquet", {})):
        caption_manifest("data/*.tar", name, **where, **options)
    assert Path("a.parquet").read_bytes() == Path("b.parquet").read_bytes()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--devices", 3], "devices: expected at most 2, the CPUs of the Ray cluster, found 3"),
        (["--prefix", "nonsense"], "no prefix named 'nonsense'"),
        (["--device", "cuda:1"], "device: expected auto, cpu or cuda with Ray"),
    ],
)
def test_what_is_refused(
    cluster: None, options: list, message: str, refused: Run, write: Write, lines: list[dict],
    output: Path,
) -> None:  # fmt: skip
    assert message in refused(write(lines), output, "--ray", *options)
    assert not list(output.parent.glob("out.jsonl*"))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A folder with room for 16 KiB; whoever may not mount one skips the test."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=16k", "tmpfs", str(folder)]
    if not shutil.which("mount") or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("mounting is not allowed here")
    yield folder
    subprocess.run(["umount", folder], check=True)


@pytest.mark.long
@pytest.mark.parametrize("ray", [["--ray"], []])
def test_a_full_disk_stops_the_run_which_goes_on_when_there_is_room(
    cluster: None, ray: list[str], run: Run, refused: Run, write: Write, lines: list[dict],
    output: Path, small_disk: Path,
) -> None:  # fmt: skip
    manifest = write([{**line, "id": n} for n, line in enumerate(lines * 8)])
    options = ["--steps", 1, *ray]
    run(manifest, output, *options[:2])
    target = small_disk / "out.jsonl"
    assert "cannot be written: No space left on device" in refused(manifest, target, *options)
    roomy = ["mount", "-o", "remount,size=1m", str(small_disk)]
    subprocess.run(roomy, check=True)
    said = run(manifest, target, *options)
    assert " images were done before" in said and "; 0 images" not in said
    assert target.read_bytes() == output.read_bytes()


# --- without a cluster ---------------------------------------------------------------------


def test_an_address_where_nobody_answers(
    refused: Run, write: Write, lines: list[dict], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    message = refused(write(lines), output, "--ray", "127.0.0.1:1")
    assert "no Ray cluster answers at 127.0.0.1:1" in message


def test_a_bad_line_is_named_before_a_cluster_is_looked_for(
    refused: Run, write: Write, lines: list[dict], output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    manifest = write([*lines[:2], '{"image": 7}'])
    said = refused(manifest, output, "--ray", "127.0.0.1:1")
    assert "m.jsonl, line 3: " in said
    assert said == refused(manifest, output)


def test_the_extra_to_install_is_named(
    write: Write, lines: list[dict], output: Path, monkeypatch: pytest.MonkeyPatch, capsys
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    asked = ["caption", "--manifest", write(lines), "--output", output, "--ray"]
    assert main([str(word) for word in asked]) == 2
    said = capsys.readouterr().err
    assert 'needs ray, not installed: pip install "regionlm[ray]"' in said
    assert said.count("\n") == 1


def test_the_pipeline_ends_before_the_cluster_does() -> None:
    ended = []

    def rows() -> Iterator[dict]:
        try:
            yield from ({"error": b""}, {"error": b""})
        finally:
            ended.append(True)

    with pytest.raises(ZeroDivisionError), _ended(rows()) as running:
        next(running)
        raise ZeroDivisionError
    assert ended and running  # though something has it still


def test_an_empty_address_is_refused(write: Write, lines: list[dict], output: Path) -> None:
    with pytest.raises(InputError, match="ray: expected the address"):
        caption_manifest(write(lines), output, ray="")


def test_shards_never_share_a_file(tmp_path: Path) -> None:
    """Whatever lines they hold; a shard that is written twice counts once."""
    journal = Journal(tmp_path / "run", {})
    answers = {number: {"id": number} for number in range(6)}
    for shard in ([0, 1, 3, 5], [0, 2, 4, 5], [0, 1, 3, 5], [2, 1]):
        journal.write_shard({n: journal_line(n, answers[n]) for n in shard})
    assert dict(journal.answers()) == answers
    assert len(list((tmp_path / "run").glob("answers-*"))) == 3
    (tmp_path / "run").chmod(0o500)
    if os.access(tmp_path / "run", os.W_OK):  # root
        return
    with pytest.raises(InputError, match="cannot be written"):
        journal.write_shard({9: json.dumps({}).encode()})
