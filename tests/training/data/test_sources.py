"""Sources in the formats that their owners publish, made here, and what bad data does."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image

from regionlm.errors import InputError
from training.data import PAIR_SOURCES, SOURCES, open_pair_source, open_source
from training.data.source_options import SOURCE_OPTIONS

from .members import jpeg, tar


def picture(path, size=(20, 16)):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(noise).save(path)


def write(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def lines(folder, *values):
    picture(folder / "a.jpg")
    text = "\n".join(v if isinstance(v, str) else json.dumps(v) for v in values)
    return {"path": str(write(folder / "m.jsonl", text))}


EMPTY = {"rle": {"size": [16, 20], "counts": [320]}, "caption": "x"}
BAD_LINES = {
    "gone": ({"image": "gone.jpg", "caption": "x"}, "gone.jpg does not exist"),
    "no picture": ({"image": "m.jsonl", "caption": "x"}, "can't be read as an image"),
    "empty": ({"image": "a.jpg", "caption": " \n"}, "expected words, found none"),
    "long": ({"image": "a.jpg", "caption": "x" * 100_000}, "found 100,000"),
    "surrogate": ('{"image": "a.jpg", "caption": "\\ud83d x"}', "half a surrogate"),
    "number": ({"image": "a.jpg", "caption": 3}, "expected text"),
    "none": ({"image": "a.jpg"}, "found none"),
    "both": ({"image": "a.jpg", "caption": "x", "captions": ["x"]}, "found caption and captions"),
    "key": ({"image": "a.jpg", "text": "x"}, "unknown key 'text'"),
    "box": ({"image": "a.jpg", "regions": [{"box": [0, 0, 99, 9], "caption": "x"}]}, "outside"),
    "mask": (
        {"image": "a.jpg", "regions": [EMPTY]},
        "covers no pixel",
    ),
    "region": ({"image": "a.jpg", "regions": [{"box": [0, 0, 9, 9]}]}, "caption: expected text"),
    "json": ("{", "expected a JSON object"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_LINES)
def test_a_bad_line_is_named_or_skipped(tmp_path, name):
    value, said = BAD_LINES[name]
    good = {"image": "a.jpg", "caption": " a cat "}
    options = lines(tmp_path, good, value)
    with pytest.raises(InputError) as raised:
        open_source("manifest", options)[1]
    assert f"{options['path']}, line 2: " in str(raised.value) and said in str(raised.value)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 400
    source = open_source("manifest", options, skip_bad=True)
    assert source[0].texts == [["a cat"]] and len(source) == 2
    with pytest.raises(InputError, match="line 2"):
        source[1]


def test_what_is_good_in_a_bad_line_stays(tmp_path):
    regions = [
        {"box": [0, 0, 9, 9], "captions": ["x", ""]},
        {"box": [5, 5, 5, 9], "caption": "y"},
        {"box": [9, 0, 12, 4], "caption": "z\u0000\u202e"},
    ]
    options = lines(tmp_path, {"image": "a.jpg", "regions": regions})
    example = open_source("manifest", options, skip_bad=True)[0]
    assert example.texts == [["x"], ["z\u0000\u202e"]] and len(example.bad) == 2
    assert example.masks.sum((1, 2)).tolist() == [81, 12]


def test_unknown_options_are_named(tmp_path):
    with pytest.raises(InputError, match=r"data\.options\.file: not an option.*path"):
        open_source("manifest", {"file": "x"})
    with pytest.raises(InputError, match=r"data\.options\.annotations: .*needs it"):
        open_source("coco_captions", {"images": "x"})
    assert sorted(SOURCES) == [
        "coco_captions",
        "manifest",
        "phrasecut",
        "visual_genome",
        "webdataset",
    ]
    assert set(SOURCE_OPTIONS) == {*SOURCES, *PAIR_SOURCES}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("manifest", {"path": 3}),
        ("coco_captions", {"annotations": ["a.json"], "images": "b"}),
        ("visual_genome", {"images": 3, "root": "a"}),
        ("phrasecut", {"split": 1, "root": "a"}),
        ("webdataset", {"shards": ["a.tar", 3]}),
    ],
)
def test_options_of_another_type_are_named(name, options):
    wrong = rf"^data\.options\.{next(iter(options))}: expected the (path|name) of"
    with pytest.raises(InputError, match=wrong):
        open_source(name, options)
    with pytest.raises(InputError, match=r"^data\.options\.path: the source clipcap needs it"):
        open_pair_source("clipcap", {"path": None}, dim=4, limit=None, skip_bad=False)


def coco(folder, captions=("a cat", "a dog", "two cats")):
    annotations = [{"image_id": i % 2, "id": 7 + i, "caption": c} for i, c in enumerate(captions)]
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 20, "height": 16} for i in range(3)]
    value = {"info": {}, "images": images, "licenses": [], "annotations": annotations}
    for i in range(2):
        picture(folder / f"pics/{i}.jpg")
    file = write(folder / "captions.json", value)
    return {"annotations": str(file), "images": str(folder / "pics")}


def test_coco_captions_of_an_image_come_together(tmp_path):
    source = open_source("coco_captions", coco(tmp_path))
    assert [one.texts for one in source] == [[["a cat", "two cats"]], [["a dog"]]]
    assert source[0].masks is None and source[0].image.size == (20, 16)
    assert len(pickle.dumps(source)) < 20_000


def test_coco_says_what_is_wrong_where(tmp_path):
    options = coco(tmp_path, ["a cat", "", "two cats"])
    with pytest.raises(
        InputError, match=r"captions\.json, image 1, annotation 8: caption: .* none"
    ):
        open_source("coco_captions", options)[1]
    (tmp_path / "pics/0.jpg").unlink()
    with pytest.raises(InputError, match="1 of 2 images are missing, for example"):
        open_source("coco_captions", options)
    with pytest.warns(UserWarning, match="1 of 2 images are missing"):
        source = open_source("coco_captions", options, skip_bad=True)
    with pytest.raises(InputError, match=r"captions\.json, image 0: .*0\.jpg does not exist"):
        source[0]
    write(tmp_path / "captions.json", '{"annotations": [{"image_id": 1, "caption": "cut of')
    with pytest.raises(InputError):
        open_source("coco_captions", options)


def genome(folder, *regions):
    records = [{"region_id": i, "image_id": 5, **region} for i, region in enumerate(regions)]
    write(folder / "region_descriptions.json", [{"id": 5, "regions": records}])
    picture(folder / "VG_100K_2/5.jpg")
    return {"root": str(folder)}


def box(phrase, x, y, width, height):
    return {"phrase": phrase, "x": x, "y": y, "width": width, "height": height}


def test_visual_genome_regions_are_cut_at_the_border_and_joined(tmp_path):
    regions = [box("sky", -3, 0, 10, 4), box("a dog", 8, 8, 99, 4), box("clouds", 0, 0, 7, 4)]
    example = open_source("visual_genome", genome(tmp_path, *regions))[0]
    assert example.texts == [["sky", "clouds"], ["a dog"]]
    expected = np.zeros((2, 16, 20), bool)
    expected[0, :4, :7] = expected[1, 8:12, 8:] = True
    assert np.array_equal(example.masks, expected)


@pytest.mark.parametrize(
    "bad", [box("x", 0, 0, 0, 4), box("", 0, 0, 4, 4), box("x", 30, 0, 4, 4), {"phrase": "x"}]
)
def test_a_bad_region_of_visual_genome_is_named_or_skipped(tmp_path, bad):
    options = genome(tmp_path, box("sky", 0, 0, 9, 9), bad)
    with pytest.raises(InputError, match=r"descriptions\.json, image 5, region 1: "):
        open_source("visual_genome", options)[0]
    example = open_source("visual_genome", options, skip_bad=True)[0]
    assert example.texts == [["sky"]] and len(example.bad) == 1


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_phrasecut_phrases_keep_their_regions(tmp_path):
    polygon = [[[2, 2], [9, 2], [9, 9], [2, 9]]]
    tasks = [
        {"task_id": f"1__{i}", "image_id": 1, "phrase": phrase, "Polygons": [shape],
         "instance_boxes": [[0, 0, 1, 1]], "ann_ids": [i]}
        for i, (phrase, shape) in enumerate([("red car", polygon), ("nothing", [[[3, 3]]])])
    ]  # fmt: skip
    write(tmp_path / "refer_train.json", tasks)
    infos = [{"image_id": 1, "width": 20, "height": 16}]
    write(tmp_path / "image_data_split.json", infos)
    picture(tmp_path / "images/1.jpg")
    options = {"root": str(tmp_path)}
    with pytest.raises(InputError, match="image 1: phrase 1__1 has no word"):
        open_source("phrasecut", options)[0]
    example = open_source("phrasecut", options, skip_bad=True)[0]
    assert example.texts == [["red car"]] and example.masks.sum() == 64 and len(example.bad) == 1


@pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")
def test_a_missing_image_of_phrasecut_stays_in_its_place(tmp_path):
    shape = [[[2, 2], [9, 2], [9, 9]]]
    tasks = [
        {"task_id": f"{i}__0", "image_id": i, "phrase": "car", "Polygons": [shape],
         "instance_boxes": [[0, 0, 1, 1]]}
        for i in (1, 2)
    ]  # fmt: skip
    write(tmp_path / "refer_train.json", tasks)
    infos = [{"image_id": i, "width": 20, "height": 16} for i in (1, 2)]
    write(tmp_path / "image_data_split.json", infos)
    picture(tmp_path / "images/2.jpg")
    with pytest.raises(InputError, match="1 of 2 images are missing"):
        open_source("phrasecut", {"root": str(tmp_path)})
    source = open_source("phrasecut", {"root": str(tmp_path)}, skip_bad=True)
    with pytest.raises(InputError, match=r"1\.jpg: no such file"):
        source[0]
    assert source[1].texts == [["car"]]


def test_nulls_of_a_table_count_as_left_out(tmp_path):
    empty = {"mask": None, "rle": None, "polygon": None, "captions": None, "id": None}
    region = {**empty, "box": [0, 0, 9, 9], "caption": "car"}
    whole = {"image": "a.jpg", "caption": "x", "captions": None, "regions": None, "width": None}
    source = open_source(
        "manifest", lines(tmp_path, whole, {"image": "a.jpg", "caption": None, "regions": [region]})
    )
    assert [one.texts for one in source] == [[["x"]], [["car"]]]
    said = json.dumps({"caption": None, "regions": [region]}).encode()
    tar(tmp_path / "0.tar", {"7.jpg": jpeg(), "7.json": said})
    [one] = open_source("webdataset", {"shards": str(tmp_path / "0.tar")})
    assert one.texts == [["car"]] and one.masks.sum() == 81
