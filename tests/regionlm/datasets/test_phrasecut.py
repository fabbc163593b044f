import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from regionlm.datasets import phrasecut
from regionlm.datasets.data_errors import DataError, DataWarning
from regionlm.datasets.phrasecut import PhraseCut, phrase_mask

pytestmark = pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")


def by_id(dataset):
    return {sample.id: sample for sample in dataset}


def test_images_come_in_the_order_of_their_first_tasks_with_all_their_phrases(build):
    dataset = PhraseCut(build.phrasecut())
    assert [dataset.id_of(i) for i in range(len(dataset))] == ["1", "2", "3"]
    sample = dataset[0]
    assert sample.texts == ("seated hill", "seated hill", "caf\u00e9 \u0000 table")
    assert sample.text_ids == sample.mask_ids == ("1__10", "1__11", "1__12")
    assert sample.targets == (0, 1, 2)
    assert sample.masks.shape == (3, 30, 40)


def test_a_phrase_of_which_no_pixel_is_drawn_is_dropped_and_told(build):
    assert PhraseCut(build.phrasecut())[0].dropped == ("1__13",)


def test_the_region_is_the_union_of_all_polygons_of_all_instances(build):
    mask = PhraseCut(build.phrasecut())[0].masks[0]
    expected = np.zeros((30, 40), bool)
    expected[3:9, 2:10] = expected[3:9, 12:16] = True  # corners belong to a polygon
    canvas = Image.new("L", (40, 30))
    ImageDraw.Draw(canvas).polygon([(20, 10), (30, 11), (25, 99)], outline=1, fill=1)
    assert np.asarray(canvas).any()
    assert np.array_equal(mask, expected | (np.asarray(canvas) > 0))


REFERENCE = Path(__file__).with_name("reference") / "phrasecut.npz"

point = st.tuples(st.floats(-9, 49), st.floats(-9, 39)).map(list)
nested = st.lists(
    st.lists(st.lists(point, min_size=1, max_size=6), min_size=1, max_size=3), max_size=3
)


@given(nested)
def test_drawing_is_the_official_rule(polygons):
    # By the rule's words: each polygon on a canvas of its own, points cut to integers, added up.
    total = np.zeros((30, 40))
    for polygon in (polygon for instance in polygons for polygon in instance):
        if len(polygon) > 1:
            canvas = Image.new("L", (40, 30), 0)
            corners = [(int(x), int(y)) for x, y in polygon]
            ImageDraw.Draw(canvas).polygon(corners, outline=1, fill=1)
            total += np.asarray(canvas)
    assert np.array_equal(phrase_mask(polygons, (40, 30)), total > 0)


def test_masks_are_those_of_the_datasets_own_tool():
    """Made by `benchmarks/published_phrasecut.py` with PhraseCutDataset's `polygons_to_mask`."""
    with np.load(REFERENCE) as reference:
        phrases, masks = json.loads(str(reference["polygons"])), reference["masks"]
    assert len(phrases) == len(masks) == 20 and 0.05 < masks.mean() < 0.95
    for polygons, mask in zip(phrases, masks, strict=True):
        assert np.array_equal(phrase_mask(polygons, (40, 30)), mask)


def test_points_are_cut_towards_zero_and_are_x_then_y():
    drawn = phrase_mask([[[[3.9, 1.9], [5.9, 1.9], [5.9, 2.9], [3.9, 2.9]]]], (8, 4))
    expected = np.zeros((4, 8), bool)
    expected[1:3, 3:6] = True
    assert np.array_equal(drawn, expected)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_another_nesting_is_an_error(depth):
    polygons = [1.0, 2.0]
    for _ in range(depth):
        polygons = [polygons, polygons]
    with pytest.raises(DataError, match=r"Polygons\[instance\]\[polygon\]\[point\] = \[x, y\]"):
        phrase_mask(polygons, (8, 4))


def test_a_grey_photo_becomes_rgb_and_the_coco_id_is_a_tag(build):
    samples = by_id(PhraseCut(build.phrasecut()))
    assert samples["2"].image.mode == "RGB"
    assert samples["2"].tags == {"coco_id": 77}
    assert samples["1"].tags == {"coco_id": None}
    assert samples["2"].texts == ('the "red" [sign]',)


def test_masks_are_drawn_at_the_annotated_size_and_resized_to_the_photo(build):
    sample = by_id(PhraseCut(build.phrasecut()))["3"]
    assert sample.image.size == (40, 60)
    assert sample.tags["annotated_size"] == (20, 30)
    expected = np.zeros((60, 40), bool)
    expected[:, :20] = True
    assert np.array_equal(sample.masks[0], expected)


@pytest.mark.parametrize("size", [(30, 20), (20, 29), (40, 58)])
def test_a_photo_of_other_proportions_is_an_error_that_names_it(build, size):
    root = build.phrasecut()
    build.photo(root / "images" / "3.jpg", size)
    with pytest.raises(DataError, match=rf"3\.jpg: expected 20 x 30 .* found {size[0]} x"):
        by_id(PhraseCut(root))


def test_a_published_photo_of_other_proportions_is_taken_as_it_is(build, monkeypatch):
    monkeypatch.setattr(phrasecut, "_OTHER_SIZES", {3})
    root = build.phrasecut()
    build.photo(root / "images" / "3.jpg", (30, 20))
    sample = by_id(PhraseCut(root))["3"]
    assert sample.image.size == (30, 20) and sample.masks.shape[1:] == (20, 30)
    assert sample.tags["annotated_size"] == (20, 30)


@pytest.mark.parametrize(
    "polygons",
    [None, [1, 2], "text", 5, [[[[float("nan"), 1.0], [2, 3]]]], [[[[10**400, 1], [2, 3]]]]],
)
def test_damaged_polygons_are_an_error_that_names_file_and_task(build, polygons):
    damaged = build.task(1, 1, "hat", [])
    damaged["Polygons"] = polygons
    with pytest.warns(DataWarning):
        dataset = PhraseCut(build.phrasecut(tasks={"val": [damaged]}))
    with pytest.raises(DataError, match=r"refer_val\.json, task 1__1: expected Polygons"):
        dataset[0]


@pytest.mark.parametrize("number", [2**63, -(2**63) - 1, True])
def test_an_image_id_that_no_table_holds_is_an_error(build, number):
    with pytest.raises(DataError, match=r"refer_val\.json, records: image_id: expected a whole"):
        PhraseCut(build.phrasecut(tasks={"val": [build.task(number, 1, "hat", [])]}))


@pytest.mark.parametrize(("key", "value"), [("phrase", None), ("image_id", "1"), ("task_id", [])])
def test_tasks_of_wrong_types_are_an_error_on_opening(build, key, value):
    damaged = {**build.task(1, 1, "hat", []), key: value}
    with pytest.raises(DataError, match=rf"refer_val\.json, task .*: expected {key} to be"):
        PhraseCut(build.phrasecut(tasks={"val": [damaged]}))


def test_a_size_that_is_none_is_an_error(build):
    root = build.phrasecut()
    infos = json.loads((root / "image_data_split.json").read_text())
    infos[1]["width"] = None
    build.write(root / "image_data_split.json", infos)
    with pytest.raises(DataError, match=r"split\.json, image 2: expected its width .* found None"):
        PhraseCut(root)


@pytest.mark.parametrize(
    ("split", "ids"), [("val", "123"), ("miniv", "4"), ("val_miniv", "1234"), ("miniv_val", "4123")]
)
def test_splits_can_be_joined_and_val_has_no_miniv(build, split, ids):
    dataset = PhraseCut(build.phrasecut(), split)
    assert [dataset.id_of(i) for i in range(len(dataset))] == list(ids)
    assert [sample.id for sample in dataset] == list(ids)


@pytest.mark.parametrize("split", ["vall", "", "val_"])
def test_an_unknown_split_names_those_there_are(build, split):
    with pytest.raises(DataError, match="train, val, miniv, test"):
        PhraseCut(build.phrasecut(), split)


LAYOUTS = [
    {},
    {1: "VG_100K", 2: "VG_100K", 3: "VG_100K"},
    {1: "VG_100K_2", 2: "VG_100K", 3: "VG_100K_2"},
    {1: "VG_100K_2", 2: "images", 3: "VG_100K"},
    {1: "images/VG_100K", 2: "images/VG_100K_2", 3: "images/VG_100K_2"},
]


@pytest.mark.parametrize("folders", LAYOUTS)
def test_images_are_found_in_every_layout(build, folders):
    root = build.phrasecut(folders=folders)
    assert len(list(PhraseCut(root))) == 3


@pytest.mark.parametrize("below", ["", "VG_100K"])
def test_images_may_lie_elsewhere(build, tmp_path, below):
    root = build.phrasecut()
    elsewhere = tmp_path / "visual genome"
    elsewhere.mkdir()
    (root / "images").rename(elsewhere / below if below else tmp_path / "flat")
    home = elsewhere if below else tmp_path / "flat"
    assert len(list(PhraseCut(root, images=home))) == 3


def test_the_list_of_images_may_have_the_name_the_readme_uses(build):
    assert len(PhraseCut(build.phrasecut(info="image_data_split3000.json"))) == 3


def test_one_message_lists_all_that_is_missing_where_it_belongs_and_where_to_get_it(tmp_path):
    with pytest.raises(DataError) as caught:
        PhraseCut(tmp_path, "val_miniv")
    message = str(caught.value)
    assert "\n" not in message
    for part in (
        str(tmp_path), "refer_val.json", "refer_miniv.json", "image_data_split3000.json",
        "images/VG_100K_2", "https://github.com/ChenyunWu/PhraseCutDataset",
    ):  # fmt: skip
        assert part in message


def test_a_root_that_is_not_there_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"there is no folder .*nowhere.*Download: "):
        PhraseCut(tmp_path / "nowhere")


def test_missing_images_are_counted(build):
    root = build.phrasecut()
    (root / "images" / "3.jpg").unlink()
    with pytest.raises(DataError, match=r"1 of 3 images are missing, for example 3\.jpg"):
        PhraseCut(root)


def test_other_counts_than_published_are_a_warning_with_both(build):
    with pytest.warns(DataWarning) as caught:
        PhraseCut(build.phrasecut(), "val_miniv")
    (message,) = [str(warning.message) for warning in caught]
    # 4 of 2,871 + 100 images, 7 of 19,495 + 821 phrases
    assert "4 images instead of 2,971" in message
    assert "7 phrases instead of 20,316" in message


def test_tasks_that_occur_twice_are_left_out_with_a_warning(build):
    tasks = {"val": [build.tasks["val"][1], *build.tasks["val"]]}
    with pytest.warns(DataWarning, match="1 tasks occur twice"):
        dataset = PhraseCut(build.phrasecut(tasks=tasks))
    counts = Counter(name for sample in dataset for name in sample.text_ids)
    assert set(counts.values()) == {1}


def test_tasks_with_more_boxes_than_regions_are_a_warning(build):
    tasks = {"val": [build.task(1, 1, "hat", [[build.rectangle(1, 1, 4, 4)]], boxes=2)]}
    with pytest.warns(DataWarning, match="1 have different numbers of regions and boxes"):
        assert len(PhraseCut(build.phrasecut(tasks=tasks))) == 1


def test_images_without_an_entry_are_left_out_with_a_warning(build):
    tasks = {"val": [*build.tasks["val"], build.task(6, 1, "hat", [[build.rectangle(1, 1, 4, 4)]])]}
    with pytest.warns(DataWarning, match="1 of 4 images with phrases are not in image_data"):
        assert len(PhraseCut(build.phrasecut(tasks=tasks))) == 3


def test_a_phrase_without_a_word_is_dropped_but_its_region_stays_a_candidate(build):
    region = [[build.rectangle(1, 1, 4, 4)]]
    tasks = {"val": [build.task(1, 1, " ", region), build.task(1, 2, "hat", region)]}
    sample = PhraseCut(build.phrasecut(tasks=tasks))[0]
    assert sample.mask_ids == ("1__1", "1__2")
    assert (sample.texts, sample.targets, sample.dropped) == (("hat",), (1,), ("1__1",))


def test_the_files_without_regions_are_recognized(build):
    root = build.phrasecut()
    tasks = json.loads((root / "refer_val.json").read_text())
    for task in tasks:
        del task["Polygons"], task["instance_boxes"]
    build.write(root / "refer_val.json", tasks)
    with pytest.raises(DataError, match=r"refer_input_\*\.json does not"):
        PhraseCut(root)


def test_a_damaged_photo_is_an_error_that_names_it(build):
    root = build.phrasecut()
    (root / "images" / "2.jpg").write_bytes(b"\xff\xd8 no more")
    with pytest.raises(DataError, match=r"2\.jpg cannot be decoded"):
        PhraseCut(root)[1]
