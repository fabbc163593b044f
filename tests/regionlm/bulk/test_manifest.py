"""What a manifest may hold, and what is said of one that can't be used."""

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from regionlm.bulk.items import BadRegion, Pictures
from regionlm.bulk.manifest import Manifest
from regionlm.bulk.opening import open_manifest
from regionlm.errors import InputError
from tests.memory import least_traced

GOOD = {"image": "0.png", "regions": [{"box": [0, 0, 9, 9]}]}


def _with(**changes: object) -> dict:
    return {**GOOD, **changes}


def _region(**region: object) -> dict:
    return {"image": "0.png", "regions": [region]}


def test_lines_keep_their_numbers(write: Callable[..., Path]) -> None:
    path = write(["\ufeff" + json.dumps(GOOD), "", _with(id="cat"), "  ", _with(id=7)])
    manifest = Manifest(path)
    assert len(manifest) == 3
    assert [(line.number, line.id) for line in map(manifest.__getitem__, range(3))] == [
        (1, 1), (3, "cat"), (5, 7),
    ]  # fmt: skip
    assert manifest.place(2) == f"{path}, line 5"


def test_nulls_of_a_table_count_as_left_out(write: Callable[..., Path]) -> None:
    region = {"box": [0, 0, 9, 9], "mask": None, "rle": None, "polygon": None, "id": None}
    line = Manifest(write([_with(id=None, regions=[region], note=None)]))[0]
    assert (line.id, line.regions) == (1, GOOD["regions"])


BAD_LINES = {
    "not JSON": ("{'image': 1}", "expected a JSON object"),
    "cut off": ('{"image": "0.png", "regions"', "expected a JSON object"),
    "a list": ("[1]", "found list"),
    "nested": ("[" * 100_000, "expected a JSON object"),
    "no image": ({"regions": [{"box": [0, 0, 9, 9]}]}, "image: expected the path"),
    "image of a number": (_with(image=3), "image: expected the path"),
    "no regions": ({"image": "0.png"}, "regions: expected a list of at least one"),
    "empty regions": (_with(regions=[]), "regions: expected a list of at least one"),
    "regions as an object": (_with(regions={"box": [0, 0, 9, 9]}), "regions: expected a list"),
    "unknown key": (_with(mask="m.png"), "unknown key 'mask'"),
    "id of true": (_with(id=True), "id: expected text or a whole number"),
    "id of nothing": (_with(id=""), "id: expected text or a whole number"),
    "region of text": (_with(regions=["m.png"]), "a region is an object"),
    "unknown form": (_region(circle=[1, 2, 3]), "unknown key 'circle'"),
    "two forms": (_region(mask="m.png", box=[0, 0, 9, 9]), "found mask and box"),
    "no form": (_region(id="a"), "found none"),
    "nulls alone": (_region(mask=None, box=None), "found none"),
    "regions of null": (_with(regions=None), "regions: expected a list of at least one"),
    "mask of a number": (_region(mask=3), "mask: expected the path"),
    "box of two": (_region(box=[1, 2]), "box: expected [x0, y0, x1, y1]"),
    "box of text": (_region(box=["a", 0, 9, 9]), "box: expected [x0, y0, x1, y1]"),
    "box of NaN": (_region(box=[float("nan"), 0, 9, 9]), "box: expected [x0, y0, x1, y1]"),
    "rle of text": (_region(rle="abc"), 'rle: expected {"size"'),
    "rle without size": (_region(rle={"counts": [1200]}), 'rle: expected {"size"'),
    "polygon of nothing": (_region(polygon=[]), "polygon: expected [[x0"),
    "region id of a list": (_region(box=[0, 0, 9, 9], id=[1]), "id: expected text"),
    "region ids alike": (
        _with(regions=[{"box": [0, 0, 9, 9], "id": 1}, {"box": [0, 0, 5, 5], "id": "1"}]),
        "regions: expected ids that differ",
    ),
}


@pytest.mark.parametrize("case", BAD_LINES)
def test_bad_line(case: str, write: Callable[..., Path]) -> None:
    line, message = BAD_LINES[case]
    path = write([GOOD, "", line])
    with pytest.raises(InputError) as caught:
        Manifest(path)
    said = str(caught.value)
    assert said.startswith(f"{path}, line 3: ") and message in said and len(said) < 400


def test_bytes_that_are_not_utf_8(write: Callable[..., Path]) -> None:
    path = write([GOOD])
    path.write_bytes(path.read_bytes() + b'{"image": "\xff.png"}\n')
    with pytest.raises(InputError, match=r"line 2: expected UTF-8"):
        Manifest(path)


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["a", "b", "a"], "line 3: .*'a' as in .*line 1;"),
        (["a", 7, "7"], "line 3: .*'7' as in .*line 2;"),
        ([None, 1], "line 2: .*1 as in .*line 1;"),
    ],
)
def test_ids_differ(ids: list, message: str, write: Callable[..., Path]) -> None:
    path = write([GOOD if one is None else _with(id=one) for one in ids])
    with pytest.raises(InputError, match=message):
        Manifest(path)


def test_files_that_are_no_manifest(data: Path, write: Callable[..., Path]) -> None:
    with pytest.raises(InputError, match=r"none\.jsonl cannot be read: No such file"):
        Manifest(data / "none.jsonl")
    with pytest.raises(InputError, match="cannot be read"):
        Manifest(data)
    with pytest.raises(InputError, match="is empty"):
        Manifest(write(["", " "]))
    with pytest.raises(InputError, match="manifest '': no name given"):
        open_manifest("")
    os.mkfifo(data / "pipe.jsonl")
    with pytest.raises(InputError, match=r"pipe\.jsonl is not a regular file"):
        open_manifest(data / "pipe.jsonl")
    assert len(open_manifest(write([GOOD]).rename(data / "a.tar.jsonl"))) == 1


def test_a_file_changed_after_it_was_opened(write: Callable[..., Path]) -> None:
    manifest = Manifest(write([GOOD, GOOD]))
    write(["x" * 200])
    with pytest.raises(InputError, match="line 1: expected a JSON object"):
        manifest[0]
    with pytest.raises(InputError, match="line 2: expected a JSON object"):
        manifest[1]


def test_long_manifests_take_little_memory(write: Callable[..., Path]) -> None:
    counts = [1] * 1200
    path = write([_region(rle={"size": [30, 40], "counts": counts})] * 3000)
    manifest, kept, peak = least_traced(lambda: Manifest(path))
    assert len(manifest) == 3000 and path.stat().st_size > 10_000_000
    assert kept < 3000 * 40 and peak < 500_000


# --- with the files ------------------------------------------------------------------------


def test_paths_are_relative_to_the_manifest(
    data: Path, write: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    absolute = str(data / "m.png")
    path = write(
        [_with(regions=[{"mask": "labels.png"}, {"mask": absolute}, {"box": [0, 0, 9, 9]}])]
    )
    for folder, name in ((tmp_path, "data/m.jsonl"), (data, "m.jsonl"), (Path("/"), path)):
        monkeypatch.chdir(folder)
        picture = Pictures(Manifest(name), skip_bad=False)[0]
        names = [region.name for region in picture.regions]
        assert names == ["labels.png#1", "labels.png#7", absolute, "box 0,0,9,9"]
        assert picture.places == [(0, 0), (0, 1), (1, 0), (2, 0)]


BAD_FILES = [
    (_with(image="none.png"), "image .*none.png does not exist"),
    (_with(image="m.jsonl"), "can't be read as an image"),
    (_region(mask="none.png"), "mask .*none.png does not exist"),
    (_region(box=[0, 0, 41, 30]), "reaches outside the image, which is 40 x 30"),
    (_region(rle={"size": [40, 30], "counts": [600, 600]}), r"expected size \[30, 40\]"),
]


@pytest.mark.parametrize(("line", "message"), BAD_FILES)
def test_bad_files_are_named_with_their_line(
    line: dict, message: str, write: Callable[..., Path]
) -> None:
    path = write([GOOD, line])
    with pytest.raises(InputError, match=message) as caught:
        Pictures(Manifest(path), skip_bad=False)[1]
    assert str(caught.value).startswith(f"{path}, line 2: ")


def test_skipping_keeps_the_other_regions(write: Callable[..., Path]) -> None:
    regions = [{"box": [0, 0, 9, 9]}, {"mask": "none.png", "id": "lost"}, {"mask": "m.png"}]
    picture = Pictures(Manifest(write([_with(regions=regions)])), skip_bad=True)[0]
    assert [region.name for region in picture.regions] == ["box 0,0,9,9", "lost", "m.png"]
    assert [isinstance(region, BadRegion) for region in picture.regions] == [False, True, False]
    assert "none.png does not exist" in picture.regions[1].error
