"""Folders are written whole or not at all, on a full disk and by killed processes, too."""

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from prefix_models import ClipCap, PrefixModelError, ProjectorConfig, ProjectorModel, add_lora
from prefix_models.clipcap.folder import CLIPCAP
from regionlm import RegionCaptioner
from regionlm.errors import InputError, ModelError
from regionlm.files import save_tensors

from .conftest import DIM

ROOT = Path(__file__).parents[2]


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """A limit on the size of files is refused where a full disk is: in write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def sizes(folder: Path) -> list[int]:
    return sorted({file.stat().st_size for file in folder.rglob("*") if file.is_file()})


@pytest.mark.parametrize("kind", ["clipcap", "lora", "projector", "bundle"])
def test_a_full_disk_is_one_line_at_every_file(model: ClipCap, tmp_path: Path, kind: str) -> None:
    saved: ClipCap | ProjectorModel | RegionCaptioner = model
    if kind == "lora":
        model.lm = add_lora(model.lm, rank=2)
    elif kind == "projector":
        settings = ProjectorConfig(DIM, tokens_per_region=2, prompt="<region> a")
        saved = ProjectorModel(model.lm, model.tokenizer, settings)
    elif kind == "bundle":
        saved = RegionCaptioner.from_pretrained("mini", device="cpu")
    saved.save_pretrained(tmp_path / "m")
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for size in sizes(tmp_path / "m"):
        with (
            files_of_at_most(size - 1),
            pytest.raises((PrefixModelError, ModelError), match="cannot write ") as raised,
        ):
            saved.save_pretrained(tmp_path / "m")
        assert "\n" not in str(raised.value) and "File too large" in str(raised.value)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_a_full_disk_is_one_line_for_a_tokenizer(model: ClipCap, tmp_path: Path) -> None:
    with (
        files_of_at_most(99),
        pytest.raises(PrefixModelError, match=r"cannot write .*m: File too large"),
        CLIPCAP.replacing(tmp_path / "m") as staging,
    ):
        model.tokenizer.backend_tokenizer.save(str(staging / "tokenizer.json"))
    assert not list(tmp_path.iterdir())


def test_a_full_disk_is_one_line_for_tensors(tmp_path: Path) -> None:
    with files_of_at_most(4096), pytest.raises(InputError, match="File too large"):
        save_tensors(tmp_path / "a.safetensors", {"x": torch.zeros(9999)})
    assert not list(tmp_path.iterdir())


FILL = """
import sys, time
from pathlib import Path
from prefix_models.clipcap.folder import CLIPCAP
with CLIPCAP.replacing(Path(sys.argv[1])) as staging:
    (staging / "half").write_text("half")
    print("filling", flush=True)
    time.sleep(600)
"""


def test_what_a_killed_process_was_filling_is_removed_and_nothing_else(
    model: ClipCap, tmp_path: Path
) -> None:
    folder = tmp_path / "m"
    command = [sys.executable, "-c", FILL, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, cwd=ROOT)
    try:
        assert process.stdout is not None and process.stdout.readline() == b"filling\n"
        (filling,) = tmp_path.iterdir()
        model.save_pretrained(folder)
        assert sorted(tmp_path.iterdir()) == sorted([filling, folder])  # it may come to an end yet
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    machine, number, name = filling.name.rsplit(".", 3)[1:]
    others = [
        f".m.{machine}x.{number}.{name}",  # may run on its own machine
        f".n.{machine}.{number}.{name}",
        f".m.{machine}.{number}.{name}.mine",
        f".m.{name}",
    ]
    older = f".m.{machine}.{os.getpid()}.{name}.old"  # an earlier process of the number of this one
    for other in (*others, older):
        (tmp_path / other).mkdir()
    with CLIPCAP.replacing(folder) as staging:
        (staging / "x").write_text("x")
        with CLIPCAP.replacing(folder):
            assert staging.exists()
    assert sorted(os.listdir(tmp_path)) == sorted([*others, "m"])


def test_the_older_folder_is_kept_where_it_is_all_there_is(model: ClipCap, tmp_path: Path) -> None:
    with CLIPCAP.replacing(tmp_path / "m") as staging:
        pass
    (tmp_path / "m").rename(tmp_path / f"{staging.name}.old")  # killed between two renames
    with pytest.raises(PrefixModelError, match="cannot write"), CLIPCAP.replacing(tmp_path / "m"):
        raise OSError("full")
    assert os.listdir(tmp_path) == [f"{staging.name}.old"]
    model.save_pretrained(tmp_path / "m")
    model.save_pretrained(tmp_path / "m")
    assert os.listdir(tmp_path) == ["m"]
