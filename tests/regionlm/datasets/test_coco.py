import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from regionlm.datasets import open_dataset
from regionlm.datasets.coco import Coco
from regionlm.datasets.data_errors import DataError, DataWarning
from regionlm.datasets.instances import segmentation_mask

pytestmark = pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")


def test_images_in_file_order_without_those_that_have_no_instance(build):
    dataset = Coco(build.coco())
    assert [sample.id for sample in dataset] == ["139", "9"]


def test_category_ids_with_gaps_become_labels_from_0(build):
    dataset = Coco(build.coco())
    assert dataset.classes == ("person", "car", "toothbrush")
    sample = dataset[1]
    assert (sample.mask_ids, sample.labels) == (("101", "103"), (2, 1))
    assert sample.texts == ("toothbrush", "car")
    assert sample.targets == (0, 1)
    assert sample.dropped == ("104",)


def test_crowds_are_left_out_unless_wanted(build):
    sample = Coco(build.coco(), include_crowd=True)[1]
    assert sample.mask_ids == ("101", "102", "103")
    assert sample.texts == ("toothbrush", "person", "car")
    assert np.array_equal(sample.masks[1], build.block(30, 40, 20, 0, 30, 40))


def test_an_image_of_crowds_only_is_in_the_dataset_only_with_crowds(build):
    crowd = build.annotation(1, 500, 1, build.run_lengths(build.block(30, 40, 0, 0, 9, 9)), crowd=1)
    root = build.coco(annotations=[crowd, *build.annotations])
    assert [sample.id for sample in Coco(root)] == ["139", "9"]
    assert [sample.id for sample in Coco(root, include_crowd=True)] == ["139", "500", "9"]


def test_other_counts_than_published_are_a_warning_with_both(build):
    with pytest.warns(DataWarning) as caught:
        Coco(build.coco())
    (message,) = [str(warning.message) for warning in caught]
    for part in (
        "3 images instead of 5,000", "4 instances instead of 36,335", "1 crowds instead of 446",
        "3 classes instead of 80",
    ):  # fmt: skip
        assert part in message


def test_an_annotation_id_that_occurs_twice_is_an_error(build):
    with pytest.raises(DataError, match="1 annotation ids occur twice"):
        Coco(build.coco(annotations=[*build.annotations, build.annotations[0]]))


@pytest.mark.parametrize("value", ["x1", 2**63, 1.5, True, None])
@pytest.mark.parametrize("key", ["id", "image_id"])
def test_an_id_that_is_no_whole_number_is_an_error(build, key, value):
    with pytest.raises(DataError, match=rf"val2017\.json, annotations: {key}: expected a whole"):
        Coco(build.coco(annotations=[{**build.annotations[0], key: value}]))


def test_the_largest_id_is_found(build):
    root, last = build.coco(), 2**63 - 1
    file = root / "annotations/instances_val2017.json"
    text = file.read_text().replace('"image_id": 139', f'"image_id": {last}')
    file.write_text(text.replace('"id": 139', f'"id": {last}'))
    sample = Coco(root)[0]
    assert (sample.id, sample.mask_ids) == (str(last), ("201",))


def test_a_number_too_long_for_python_is_an_error(build):
    root = build.coco()
    file = root / "annotations/instances_val2017.json"
    file.write_text(file.read_text().replace('"image_id": 139', f'"image_id": {"9" * 5000}'))
    with pytest.raises(DataError, match="a number too long"):
        Coco(root)


def test_two_categories_of_one_name_are_a_warning(build):
    root = build.coco()
    file = root / "annotations/instances_val2017.json"
    file.write_text(file.read_text().replace('"toothbrush"', '"car"'))
    with pytest.warns(DataWarning, match="1 names that several have, for example 'car'"):
        assert Coco(root).classes == ("person", "car", "car")


def test_no_image_is_an_error(build):
    with pytest.raises(DataError, match=r"coco: the split val2017 has no image .*val2017\.json"):
        open_dataset("coco", build.coco(annotations=[]))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("segmentation", ..., "polygons or of a run-length code, found None"),
        ("segmentation", None, "polygons or of a run-length code, found None"),
        ("segmentation", [5, 6], "polygons or of a run-length code, found"),
        ("segmentation", [[1, 2, 3, 4, 5, 6, 7]], "polygons or of a run-length code, found"),
        ("segmentation", [[1, 2, 3, "4", 5, 6]], "polygons or of a run-length code, found"),
        ("segmentation", [[1, 2, 3, 10**500, 5, 6]], "polygons or of a run-length code, found"),
        ("segmentation", {"size": [30, 40], "counts": None}, "expected counts of whole numbers"),
        ("category_id", ..., "expected the category_id of one of its 3 .* found None"),
        ("category_id", 2, "expected the category_id of one of its 3 .* found 2"),
        ("category_id", [1], r"expected the category_id of one of its 3 .* found \[1\]"),
    ],
)
def test_a_damaged_annotation_is_an_error_that_names_file_and_id(build, key, value, message):
    damaged = {**build.annotations[2], key: value}
    if value is ...:
        del damaged[key]
    dataset = Coco(build.coco(annotations=[damaged, *build.annotations[3:]]))
    with pytest.raises(DataError, match=rf"instances_val2017\.json, annotation 201: .*{message}"):
        dataset[0]
    assert dataset[1].id == "9"


def test_a_file_of_another_kind_is_an_error(build):
    root = build.coco()
    build.write(root / "annotations/instances_val2017.json", {"annotations": [{"caption": "a"}]})
    with pytest.raises(DataError, match=r"instances_val2017\.json: expected COCO's instance"):
        Coco(root)
    build.write(root / "annotations/instances_val2017.json", [])
    with pytest.raises(DataError, match="found 0 images and 0 categories"):
        Coco(root)


def test_missing_files_are_listed_with_their_addresses(tmp_path):
    with pytest.raises(DataError) as caught:
        Coco(tmp_path)
    for part in ("annotations/instances_val2017.json", "val2017", "zips/val2017.zip"):
        assert part in str(caught.value)


@pytest.mark.parametrize("split", ["train2017", "val2014"])
def test_other_splits(build, split):
    assert len(list(Coco(build.coco(split=split), split))) == 2


def test_a_photo_turned_by_exif_stays_as_stored_unless_its_sides_are_swapped(build):
    root = build.coco()
    build.photo(root / "val2017" / "000000000139.jpg", (40, 30), turn=3)  # upside down
    build.photo(root / "val2017" / "000000000009.jpg", (30, 40), turn=6)  # a quarter turn
    upside_down, quarter = Coco(root)
    build.photo(root / "plain.jpg", (40, 30))
    assert upside_down.image.tobytes() == Image.open(root / "plain.jpg").tobytes()
    assert quarter.image.size == (40, 30)
    assert "annotated_size" not in quarter.tags


masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(masks)
def test_run_length_codes_of_both_kinds_are_column_by_column(mask):
    from pycocotools import mask as coco_mask

    size = mask.shape[::-1]
    flat = mask.flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat, [not flat[-1]]]).astype(int)))
    counts = np.diff(np.concatenate([[0], edges])).tolist()
    plain = {"size": list(mask.shape), "counts": counts}
    assert sum(counts) == mask.size
    assert np.array_equal(segmentation_mask(plain, size), mask)
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
    packed = {"size": list(mask.shape), "counts": packed["counts"].decode()}
    assert np.array_equal(segmentation_mask(packed, size), mask)


@pytest.mark.parametrize("polygons", [[], [[]], [[1, 2, 3, 4]], [[1.0, 1.0]]])
def test_polygons_of_too_few_points_are_nothing(polygons):
    drawn = segmentation_mask(polygons, (9, 7))
    assert drawn.shape == (7, 9) and not drawn.any()


def test_a_polygon_of_two_points_does_not_hide_the_others(build):
    square = build.flat(build.rectangle(1, 1, 5, 5))
    for polygons in ([[1, 2, 3, 4], square], [square, [1, 2]]):
        expected = build.block(7, 9, 1, 1, 5, 5)
        assert np.array_equal(segmentation_mask(polygons, (9, 7)), expected)


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ({"size": [9, 7], "counts": [63]}, r"size \[7, 9\]"),
        ("text", "polygons or of a run-length code"),
        ({"counts": [63]}, "polygons or of a run-length code"),
    ],
)
def test_other_segmentations_are_an_error(segmentation, message):
    with pytest.raises(DataError, match=message):
        segmentation_mask(segmentation, (9, 7))
