"""WebDataset tar files as manifests."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from regionlm.bulk.items import Pictures
from regionlm.bulk.opening import open_manifest
from regionlm.errors import InputError

from .packed import tar_of, without_files, write_tar
from .whole_runs import Run, Write, read_output

BOX = {"regions": [{"box": [0, 0, 9, 9]}]}


def test_captions_are_those_of_the_same_lines(
    run: Run, write: Write, lines: list[dict], data: Path, output: Path, tmp_path: Path
) -> None:
    plain = without_files(lines)
    run(write(plain), tmp_path / "plain")
    tar_of(tmp_path / "00000.tar", data, plain[:2])
    tar_of(tmp_path / "00001.tar", data, plain[2:], first=10000)
    run(tmp_path / "{00000..00001}.tar", output)
    found = read_output(output)
    assert [line["regions"] for line in found] == [
        line["regions"] for line in read_output(tmp_path / "plain")
    ]
    assert [line["id"] for line in found[:3]] == ["000000000", "000000001", "000010000"]
    assert found[0]["image"] == "00000.tar/000000000.png"
    said = run(tmp_path / "0000*.tar", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == output.read_bytes()
    assert f"of {len(plain)} images" in said


def test_a_stopped_run_goes_on(
    run: Run, refused: Run, lines: list[dict], data: Path, output: Path, tmp_path: Path
) -> None:
    good = tar_of(tmp_path / "a.tar", data, without_files(lines))
    run(good, output.with_name("whole"))
    size, pixels = good.stat().st_size, good.read_bytes()
    at = pixels.rindex(b"IHDR")
    good.write_bytes(pixels[:at] + b"xxxx" + pixels[at + 4 :])  # the last image
    os.utime(good, ns=(1, 1))
    message = refused(good, output)
    last = len(without_files(lines)) - 1
    assert f"a.tar, sample {last:09d}: image a.tar/{last:09d}.png" in message
    good.write_bytes(pixels)
    os.utime(good, ns=(1, 1))
    assert good.stat().st_size == size
    assert f"; {last} images were done before" in run(good, output)
    assert output.read_bytes() == output.with_name("whole").read_bytes()


def _members(image: bytes) -> dict[str, tuple[dict[str, object], str]]:
    return {
        "no JSON": ({"b.png": image, "b.txt": b"a"}, "expected a .json, found none"),
        "no image": ({"b.json": BOX}, "expected an image, found none"),
        "several images": (
            {"b.x.png": image, "b.y.png": image, "b.json": BOX},
            "expected one image, found several",
        ),
        "two kinds": (
            {"b.jpg": image, "b.json": BOX, "b.png": image},
            "expected one image, found several: let only the one to use end in plain .jpg",
        ),
        "not JSON": ({"b.png": image, "b.json": b"{'regions': 1}"}, "expected a JSON object"),
        "a list": ({"b.png": image, "b.json": []}, "expected an object such as"),
        "no regions": ({"b.png": image, "b.json": {"key": "b"}}, "regions: expected a list"),
        "a bad region": (
            {"b.png": image, "b.json": {"regions": [{"circle": 3}]}},
            "unknown key 'circle' of a region",
        ),
        "a mask file": (
            {"b.png": image, "b.json": {"regions": [{"mask": "m.png"}]}},
            "expected box, rle or polygon in a tar file",
        ),
        "an odd id": (
            {"b.png": image, "b.json": {**BOX, "id": 1.5}},
            "id: expected text or a whole number",
        ),
    }


@pytest.mark.parametrize("case", _members(b""))
def test_a_sample_of_another_form(case: str, data: Path, tmp_path: Path) -> None:
    image = (data / "0.png").read_bytes()
    members, message = _members(image)[case]
    path = write_tar(tmp_path / "a.tar", {"a.png": image, "a.json": BOX, **members})
    with pytest.raises(InputError) as caught:
        open_manifest(path)
    said = str(caught.value)
    assert said.startswith(f"{path}, sample b: ") and message in said and "\n" not in said
    pictures = Pictures(open_manifest(path, skip_bad=True), skip_bad=True)
    assert len(pictures) == 2 and pictures[0].line.id == "a"
    with pytest.raises(InputError) as caught:
        pictures[1]
    answer = pictures.unreadable(1, caught.value)
    assert answer["id"] == "b" and message in answer["error"]
    assert str(path) not in answer["error"]


def test_bad_samples_can_be_skipped(run: Run, data: Path, output: Path, tmp_path: Path) -> None:
    image = (data / "0.png").read_bytes()
    members = {"a.png": image, "a.json": BOX, "b.png": b"no", "b.json": BOX, "c.json": BOX}
    said = run(write_tar(tmp_path / "a.tar", members), output, "--skip_bad")
    assert "1 regions of 1 images" in said and "; 2 skipped" in said
    assert "a.tar, sample b: image a.tar/b.png can't be read as an image" in said
    assert [sorted(line) for line in read_output(output)[1:]] == [["error", "id", "image"]] * 2


def test_ids(data: Path, tmp_path: Path) -> None:
    image = (data / "0.png").read_bytes()
    long = "d/" + "x" * 150
    members = {
        f"{long}.jpg": image, f"{long}.json": BOX, "b.png": image, "b.json": {**BOX, "id": 7},
        "._c.png": b"macOS", "c.png": image, "._c.json": b"macOS", "c.json": BOX,
    }  # fmt: skip
    manifest = open_manifest(write_tar(tmp_path / "a.tar", members))
    assert [line.id for line in map(manifest.__getitem__, range(len(manifest)))] == [long, 7, "c"]
    assert manifest[0].image == f"a.tar/{long}.jpg"
    shutil.copy(tmp_path / "a.tar", tmp_path / "b.tar")
    expected = r"b\.tar, sample .*: expected ids that differ, .* as in .*a\.tar, sample "
    for several in ("?.tar", "{a.tar,b.tar}"):
        with pytest.raises(InputError, match=expected):
            open_manifest(tmp_path / several)


@pytest.mark.parametrize("name", ["a.tar", "a.tar.gz", "a.tgz"])
def test_what_is_no_tar_file(name: str, tmp_path: Path, refused: Callable, output: Path) -> None:
    (tmp_path / name).write_bytes(b"not a tar" * 100)
    assert "expected an uncompressed tar file" in refused(tmp_path / name, output)
    assert "expected tar files at" in refused(tmp_path / "none-*.tar", output)
