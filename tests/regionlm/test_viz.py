"""Heatmap pictures, and how results are written."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open

from regionlm.errors import InputError
from regionlm.files import check_writable, save_picture, save_tensors, write_atomically
from regionlm.viz import colour_relevance, draw_heatmaps, draw_panel, outline, save_heatmap

IMAGE = Image.new("RGB", (40, 30), (90, 120, 90))
MASK = np.zeros((30, 40), bool)
MASK[5:20, 10:30] = True


def test_colours_grow_lighter_with_relevance() -> None:
    ramp = colour_relevance(np.linspace(0, 1, 50)[None]).astype(int)
    luma = ramp @ [299, 587, 114]
    assert (np.diff(luma[0]) > 0).all()


def test_colours_stand_odd_values() -> None:
    odd = colour_relevance(np.array([[np.nan, -3.0, 7.0]]))
    assert odd.tolist() == colour_relevance(np.array([[0.0, 0.0, 1.0]])).tolist()


def test_outline_rings_the_mask() -> None:
    line, halo = outline(MASK)
    assert (line <= MASK).all() and not (halo & MASK).any()
    assert line.sum() == 15 * 20 - 11 * 16  # two pixels wide
    assert halo.sum() == 2 * (15 + 20)


@pytest.mark.parametrize("mask", [np.ones((4, 5), bool), np.eye(4, 5, dtype=bool)])
def test_outline_at_the_border(mask: np.ndarray) -> None:
    line, halo = outline(mask)
    assert not (line & halo).any()
    assert line.any() != mask.all()  # a full mask has no edge inside the image


def test_panel_shows_outline_and_relevance() -> None:
    relevance = np.zeros((30, 40), np.float32)
    relevance[:, 20:] = 1
    panel = np.asarray(draw_panel(IMAGE, MASK, relevance)).astype(int)
    assert panel.shape == (360, 480, 3)
    white = (panel == 255).all(axis=2)
    rows, columns = np.nonzero(white)
    assert (rows.min(), rows.max() + 1) == (60, 240)  # 12 times the mask's 5..20
    assert (columns.min(), columns.max() + 1) == (120, 360)
    assert panel[300, 400].sum() > panel[300, 80].sum() + 150  # relevant is lighter


def test_relevance_may_be_a_small_grid() -> None:
    fine = draw_panel(IMAGE, MASK, np.full((30, 40), 0.4))
    coarse = draw_panel(IMAGE, MASK, np.full((3, 4), 0.4))
    assert np.array_equal(np.asarray(fine), np.asarray(coarse))


def test_one_pixel_of_a_large_image_is_still_outlined() -> None:
    mask = np.zeros((3000, 4000), bool)
    mask[1500, 2000] = True
    panel = draw_panel(Image.new("RGB", (4000, 3000)), mask, np.zeros((3, 4)))
    assert (np.asarray(panel) == 255).all(axis=2).sum() == 1


def test_captions_are_wrapped_below() -> None:
    short = draw_panel(IMAGE, MASK, np.zeros((3, 4)), "a dog")
    long = draw_panel(IMAGE, MASK, np.zeros((3, 4)), "a dog on the snow " * 8 + "x" * 300)
    assert 360 < short.height < long.height
    text = np.asarray(long)[365:]
    assert text.min() < 100 and (text[:, -2:] == 255).all()


@pytest.mark.parametrize(("count", "columns", "rows"), [(1, 1, 1), (3, 3, 1), (5, 4, 2)])
def test_panels_stand_side_by_side(count: int, columns: int, rows: int) -> None:
    sheet = draw_heatmaps(IMAGE, [MASK] * count, torch.zeros(count, 3, 4))
    assert sheet.size == (columns * 492 - 12, rows * 372 - 12)


@pytest.mark.parametrize(
    ("name", "kind"), [("a.png", "PNG"), ("a.JPG", "JPEG"), ("a.webp", "WEBP")]
)
def test_save_heatmap_writes_one_picture(tmp_path: Path, name: str, kind: str) -> None:
    save_heatmap(tmp_path / name, IMAGE, MASK[None], np.zeros((1, 3, 4)), ["a dog"])
    assert [path.name for path in tmp_path.iterdir()] == [name]
    with Image.open(tmp_path / name) as picture:
        assert picture.format == kind


def test_tensors_come_back_with_their_metadata(tmp_path: Path) -> None:
    path = tmp_path / "let.safetensors"
    wanted = torch.arange(6.0).reshape(3, 2).T  # not contiguous
    save_tensors(path, {"embeddings": wanted}, {"regions": '["a", "b"]'})
    with safe_open(path, "pt") as file:
        assert torch.equal(file.get_tensor("embeddings"), wanted)
        assert file.metadata() == {"regions": '["a", "b"]'}
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(aside: Path) -> None:
        aside.write_text("half")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


_KILLED_WHILE_WRITING = """
import os, signal, sys
from pathlib import Path
from regionlm.files import write_atomically

def write(aside):
    aside.write_text("half")
    if sys.argv[2] == "wait":
        print("writing", flush=True)
        sys.stdin.read()
    else:
        os.kill(os.getpid(), signal.SIGKILL)

write_atomically(Path(sys.argv[1]), write)
"""


@pytest.mark.skipif(os.name != "posix", reason="there is no way to ask whether a process runs")
def test_what_killed_processes_left_is_removed_and_nothing_else(tmp_path: Path) -> None:
    path, pipe = tmp_path / "a[1].txt", subprocess.PIPE
    command = [sys.executable, "-c", _KILLED_WHILE_WRITING, str(path)]
    root = Path(__file__).parents[2]
    subprocess.run([*command, "die"], cwd=root)
    (left,) = tmp_path.iterdir()
    for name in (left.name.replace("a[1]", "b"), ".a[1].txt.elsewhere.1.part"):
        (tmp_path / name).touch()
    others = set(tmp_path.iterdir()) - {left}
    with subprocess.Popen([*command, "wait"], cwd=root, stdin=pipe, stdout=pipe) as living:
        assert living.stdout is not None and living.stdout.readline() == b"writing\n"
        assert not left.exists()
        (its,) = set(tmp_path.iterdir()) - others
        write_atomically(path, lambda aside: aside.write_text("whole"))
        assert set(tmp_path.iterdir()) == {path, its} | others
    assert set(tmp_path.iterdir()) == {path} | others


def test_a_link_is_followed(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("real.png")
    save_picture(tmp_path / "link.png", IMAGE)
    assert (tmp_path / "link.png").is_symlink()
    assert Image.open(tmp_path / "real.png").size == IMAGE.size


def test_check_writable_leaves_nothing_and_touches_nothing(tmp_path: Path) -> None:
    (tmp_path / "old.png").write_bytes(b"old")
    check_writable(tmp_path / "new.png")
    check_writable(tmp_path / "old.png", (".png",))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("old.png", b"old")]


@pytest.mark.parametrize(
    ("name", "fragment"),
    [
        ("", "is a folder"),
        ("no/such/a.png", "does not exist: create it"),
        ("file/a.png", "does not exist: create it"),
        ("a.gif", "ending in .png, .jpg"),
        ("a", "found no ending"),
        ("x" * 300 + ".png", "cannot be written"),
        ("nul\0.png", "cannot be written"),
    ],
)
def test_check_writable_refuses(tmp_path: Path, name: str, fragment: str) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError) as caught:
        check_writable(tmp_path / name, (".png", ".jpg") if name else ())
    assert fragment in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_devices_are_no_outputs() -> None:
    with pytest.raises(InputError, match="not a regular file"):
        check_writable("/dev/null")
