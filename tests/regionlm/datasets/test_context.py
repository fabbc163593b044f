import json

import numpy as np
import pytest
from PIL import Image

from regionlm.datasets.context import Context59
from regionlm.datasets.context_classes import CLASSES
from regionlm.datasets.data_errors import DataError, DataWarning

pytestmark = pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")

FORMS = ("png", "mat", "detail")

# Of the API of "PASCAL in Detail": the 59 numbers in the order of its evaluation, VOC's 20 first.
DETAIL_ORDER = (
    2, 23, 25, 31, 34, 45, 59, 65, 72, 98, 397, 113, 207, 258, 284, 308, 347, 368, 416, 427, 9, 18,
    22, 33, 44, 46, 68, 80, 85, 104, 115, 144, 158, 159, 162, 187, 189, 220, 232, 259, 260, 105,
    296, 355, 295, 324, 326, 349, 354, 360, 366, 19, 415, 420, 424, 440, 445, 454, 458,
)  # fmt: skip
VOC_ORDER = (
    "aeroplane bicycle bird boat bottle bus car cat chair cow table dog horse motorbike person "
    "pottedplant sheep sofa train tvmonitor"
)


def test_the_numbers_are_those_of_the_official_tools_and_the_first_20_are_vocs():
    assert sorted(DETAIL_ORDER) == list(CLASSES)
    assert " ".join(CLASSES[number] for number in DETAIL_ORDER[:20]) == VOC_ORDER


def test_numbers_and_names_ascend_together():
    assert list(CLASSES.values()) == sorted(CLASSES.values())
    assert len(set(CLASSES.values())) == 59


@pytest.mark.parametrize("form", FORMS)
def test_all_three_forms_give_the_same_masks(build, form):
    dataset = Context59(build.context(form, CLASSES))
    assert len(dataset) == 1 and len(dataset.classes) == 59
    sample, numbers = dataset[0], build.context_numbers()
    assert sample.id == "2008_000512"
    assert sample.texts == ("bed", "potted plant", "wood")
    assert sample.mask_ids[1] == "2008_000512/pottedplant"
    assert sample.labels == (2, 39, 58)
    assert np.array_equal(sample.masks, np.stack([numbers == n for n in (18, 308, 458)]))


@pytest.mark.parametrize("form", FORMS)
def test_the_form_can_be_chosen_and_the_training_images_too(build, form):
    dataset = Context59(build.context(form, CLASSES), "train", form=form, names="raw")
    assert dataset[0].id == "2008_000019"
    assert dataset[0].texts == ("bed", "pottedplant", "wood")


def test_later_regions_lie_on_top_of_earlier_ones(build):
    # The fixture paints the bed under the plant and the wood.
    sample = Context59(build.context("detail", CLASSES))[0]
    assert not (sample.masks[0] & sample.masks[1]).any()
    assert sample.masks[0].sum() == 8 * 16


def test_both_phases_of_detail_are_trainval(build):
    dataset = Context59(build.context("detail", CLASSES), "trainval")
    assert {sample.id for sample in dataset} == {"2008_000512", "2008_000019"}


def test_a_class_can_be_dropped(build):
    dataset = Context59(build.context("mat", CLASSES), drop_classes=["potted plant"])
    assert len(dataset.classes) == 58
    assert dataset[0].labels == (2, 57)


def test_synonyms_of_the_names_are_no_contradiction(build, recwarn):
    names = {**CLASSES, 19: "bedcloth", 80: "clothes", 397: "diningtable"}
    Context59(build.context("detail", names))
    assert not [w for w in recwarn if "otherwise" in str(w.message)]


def test_other_names_for_the_numbers_are_a_warning(build):
    names = {**CLASSES, 23: "bird", 25: "bicycle"}
    with pytest.warns(DataWarning, match="names for 2 of the 59 .* 23 'bird' instead of 'bicycle'"):
        Context59(build.context("detail", names))


def test_labels_txt_is_compared_with_the_numbers(build):
    root = build.context("mat", CLASSES)
    lines = [f"{number}: {name}" for number, name in CLASSES.items()]
    build.write(root / "labels.txt", "1: accordion\n" + "\n".join(lines) + "\n")
    Context59(root)
    build.write(root / "labels.txt", "\n".join(lines).replace("18: bed\n", "18: boat\n"))
    with pytest.warns(DataWarning, match="names for 1 of the 59"):
        Context59(root)
    build.write(root / "labels.txt", "bed\n")
    with pytest.raises(DataError, match="lines like '2: aeroplane'; found 'bed'"):
        Context59(root)


def test_a_conversion_with_void_is_another_one(build):
    # Some tools write classes as 0..58 and 255 for none: read as ours, all would be shifted by 1.
    root = build.context("png", CLASSES)
    (path,) = root.rglob("2008_000512.png")
    Image.fromarray(np.asarray(Image.open(path)) - np.uint8(1)).save(path)
    with pytest.raises(DataError, match=r"class numbers 0\.\.59, found 255: another conversion"):
        Context59(root)[0]


def test_a_damaged_or_foreign_mat_file_is_an_error(build):
    from scipy.io import savemat

    root = build.context("mat", CLASSES)
    path = root / "trainval" / "2008_000512.mat"
    savemat(path, {"Other": np.eye(3)})
    with pytest.raises(DataError, match=r"expected a matrix LabelMap \[H, W\], found none"):
        Context59(root)[0]
    path.write_bytes(b"no MATLAB")
    with pytest.raises(DataError, match=r"2008_000512\.mat is no MATLAB file"):
        Context59(root)[0]


@pytest.mark.parametrize("key", ["segmentation", "category_id"])
def test_a_damaged_region_of_detail_is_an_error_that_names_file_and_id(build, key):
    root = build.context("detail", CLASSES)
    (path,) = root.rglob("trainval_merged.json")
    whole = json.loads(path.read_text())
    del whole["annos_segmentation"][1][key]
    build.write(path, whole)
    dataset = Context59(root, "trainval")
    bad = next(i for i in range(2) if dataset.id_of(i) == "2008_000512")
    with pytest.raises(DataError, match=r"merged\.json, annotation 1: expected a .*, found None"):
        dataset[bad]
    assert dataset[1 - bad].texts


def test_a_label_map_that_is_gone_is_named(build):
    root = build.context("mat", CLASSES)
    dataset = Context59(root)
    (root / "trainval" / "2008_000512.mat").unlink()
    with pytest.raises(DataError, match=r"2008_000512\.mat: no such file"):
        dataset[0]


def test_without_any_form_all_three_are_listed(tmp_path):
    with pytest.raises(DataError) as caught:
        Context59(tmp_path)
    for part in (
        "SegmentationClassContext/ID.png", "trainval/ID.mat", "trainval_merged.json",
        "VOC2010/JPEGImages", "VOCtrainval_03-May-2010.tar", "pascal-context",
    ):  # fmt: skip
        assert part in str(caught.value)


def test_a_form_that_is_not_there_is_missing(build):
    with pytest.raises(DataError, match=r"missing in .*: detail \(looked for trainval_merged"):
        Context59(build.context("png", CLASSES), form="detail")


def test_other_counts_than_published_are_a_warning_with_both(build):
    with pytest.warns(DataWarning, match="1 images instead of 5,105"):
        Context59(build.context("mat", CLASSES))
