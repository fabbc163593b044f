"""Tar files as WebDataset writes them."""

import json
import os

import pytest

from regionlm.errors import InputError
from training.data import open_source

from .members import jpeg, tar


def test_webdataset_samples_come_in_order(tmp_path):
    said = json.dumps({"caption": "b", "url": "u"}).encode()
    regions = {"regions": [{"box": [0, 0, 9, 9], "caption": "c"}]}
    long = "x" * 150
    tar(
        tmp_path / "0.tar",
        {"d/1.jpg": jpeg(), "d/1.txt": b"a\n", "d/2.json": said, "d/2.jpg": jpeg()},
    )
    tar(tmp_path / "1.tar", {f"{long}.jpg": jpeg(), f"{long}.json": json.dumps(regions).encode()})
    source = open_source("webdataset", {"shards": str(tmp_path / "*.tar")})
    assert [one.texts for one in source] == [[["a"]], [["b"]], [["c"]]]
    assert source[0].image.size == (20, 16) and source[2].masks.sum() == 81
    before = source.key
    os.utime(tmp_path / "0.tar", ns=(1, 1))
    assert open_source("webdataset", {"shards": str(tmp_path / "*.tar")}).key != before


@pytest.mark.parametrize(
    "names",
    [
        ("1.image.jpg", "1.caption.txt"),
        ("1.txt", "1.mask.jpg", "1.jpg", "1.old.txt"),
        ("d/1.old.txt", "d/1.txt", "d/1.mask.jpg", "d/1.depth.jpg", "d/1.jpg"),
    ],
)
def test_longer_endings_count_where_there_is_no_plain_one(tmp_path, names):
    good = {"jpg": jpeg(), "image.jpg": jpeg(), "txt": b"a", "caption.txt": b"a"}
    tar(tmp_path / "0.tar", {name: good.get(name.partition(".")[2], b"no") for name in names})
    [one] = open_source("webdataset", {"shards": str(tmp_path / "0.tar")})
    assert one.texts == [["a"]] and one.image.size == (20, 16)


@pytest.mark.parametrize(
    ("shards", "captions"),
    [
        ("x-{008..011}.tar", ["008", "009", "010", "011"]),
        ("x-{010..009}.tar", ["010", "009"]),
        ("{y,x}-{1,008}.tar", ["y1", "y8", "x1", "008"]),
        (["y-{1..1}.tar", "x-{008..008}*"], ["y1", "008"]),
        ("{odd,name}.tar", ["odd"]),
    ],
)
def test_braces_of_webdataset_are_what_a_shell_makes_of_them(
    tmp_path, monkeypatch, shards, captions
):
    monkeypatch.chdir(tmp_path)
    names = {"y-1": "y1", "y-008": "y8", "x-1": "x1", "{odd,name}": "odd"}
    names.update({f"x-{n}": n for n in ("008", "009", "010", "011")})
    for name, caption in names.items():
        tar(tmp_path / f"{name}.tar", {"1.jpg": jpeg(), "1.txt": caption.encode()})
    found = open_source("webdataset", {"shards": shards})
    assert [one.texts for one in found] == [[[caption]] for caption in captions]


@pytest.mark.parametrize(
    ("shards", "missing"),
    [
        ("{0..999999999}.tar", "at 1.tar, found none"),  # and at once
        ("{0,2}.tar", "at 2.tar, found none"),
        ("{a,{0,0}}.tar", "at {a,0}.tar, found none"),
        ("{0}.tar", "at {0}.tar, found none"),
    ],
)
def test_every_shard_that_braces_name_must_be_there(tmp_path, monkeypatch, shards, missing):
    monkeypatch.chdir(tmp_path)
    tar(tmp_path / "0.tar", {"1.jpg": jpeg(), "1.txt": b"a"})
    with pytest.raises(InputError) as raised:
        open_source("webdataset", {"shards": shards})
    assert missing in str(raised.value)


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"7.txt": b"a"}, "expected an image"),
        ({"7.jpg": jpeg()}, "expected a .txt or .json"),
        ({"7.jpg": b"no", "7.txt": b"a"}, "its image can't be read as an image"),
        ({"7.jpg": jpeg()[:-40] , "7.txt": b"\xff\xfe"}, "expected UTF-8"),
        ({"7.jpg": jpeg(), "7.json": b'{"x": 1}'}, "found none"),
        ({"7.image.jpg": jpeg(), "7.mask.png": jpeg(), "7.txt": b"a"}, "expected one image, found"),
        ({"7.v1.jpg": jpeg(), "7.a.txt": b"a", "7.b.txt": b"a"}, "expected one .txt or .json"),
    ],
)  # fmt: skip
def test_a_bad_sample_of_a_tar_file_is_named(tmp_path, members, said):
    tar(tmp_path / "0.tar", members)
    with pytest.raises(InputError) as raised:
        open_source("webdataset", {"shards": str(tmp_path / "0.tar")})[0]
    assert "0.tar, sample 7: " in str(raised.value) and said in str(raised.value)


def test_what_is_no_tar_file_is_one_line(tmp_path):
    (tmp_path / "0.tar").write_text("not a tar" * 100)
    with pytest.raises(InputError, match="uncompressed tar"):
        open_source("webdataset", {"shards": str(tmp_path / "0.tar")})
    with pytest.raises(InputError, match="found none"):
        open_source("webdataset", {"shards": str(tmp_path / "*.zip")})
