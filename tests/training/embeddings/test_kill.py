"""`kill -9` while embeddings are computed: the same command goes on and loses nothing."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from regionlm.cli.main import main
from tests.waiting import waiting_command
from training.embeddings.predict import SHARD, TOGETHER
from training.first_hour.make import FOLDER

ROOT = Path(__file__).parents[3]
SHARDS = 5
SETTINGS = {
    "output": "run",
    "data": [{"source": "manifest", "options": {"path": "many.jsonl"}, "embedder": "cls",
              "embedder_options": {"size": 32}}],
    "start": {"bundle": "mini"},
    "recipe": {"steps": 1},
    "trainer": {"accelerator": "cpu", "devices": 1, "enable_progress_bar": False},
}  # fmt: skip
EMBED = ["train", "embed", "--config", "config.yaml", "--store"]


def _prepare() -> int:
    """Write config and manifest, the last shard not full; returns the number of its lines."""
    lines = [json.loads(line) for line in (FOLDER / "images.jsonl").read_text().splitlines()]
    count = (SHARDS - 1) * SHARD * TOGETHER + 20
    said = [{**lines[n % 40], "image": str(FOLDER / lines[n % 40]["image"])} for n in range(count)]
    Path("many.jsonl").write_text("\n".join(map(json.dumps, said)))
    Path("config.yaml").write_text(yaml.safe_dump(SETTINGS))
    return count


def _shards(store: str) -> dict[Path, os.stat_result]:
    return {path: path.stat() for path in sorted(Path(store).rglob("*.safetensors"))}


def _bytes(store: str) -> dict[Path, bytes]:
    found = [path for path in Path(store).rglob("*") if path.is_file() and path.suffix != ".part"]
    return {path.relative_to(store): path.read_bytes() for path in found}


@pytest.mark.long
def test_killed_and_started_again_it_makes_only_what_is_missing(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    count = _prepare()
    assert main([*EMBED, "whole"]) == 0
    code = waiting_command("training.embeddings.predict", "write_shard")
    process = subprocess.Popen(
        [sys.executable, "-c", code, *EMBED, "killed"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    deadline = time.monotonic() + 300
    try:
        while not _shards("killed"):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.002)
    finally:
        process.kill()
    assert process.wait() == -signal.SIGKILL
    before = _shards("killed")
    assert 1 <= len(before) <= 2
    # The kill may come while a shard is written: to the name that such a file has by then.
    (torn,) = {path.parent for path in before}
    (torn / f".{SHARDS - 1:06d}.safetensors.{process.pid}.part").write_bytes(b"\x10\0\0")

    capsys.readouterr()
    assert main([*EMBED, "killed"]) == 0
    assert capsys.readouterr().out == f"killed: {count} pairs to train on, 0 to validate\n"
    after = _shards("killed")
    assert len(after) == SHARDS and _bytes("killed") == _bytes("whole")
    for path, found in before.items():
        assert (after[path].st_ino, after[path].st_mtime_ns) == (found.st_ino, found.st_mtime_ns)
