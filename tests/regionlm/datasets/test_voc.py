import numpy as np
import pytest
from PIL import Image

from regionlm.datasets.data_errors import DataError, DataWarning
from regionlm.datasets.voc import CLASSES, Voc2012

pytestmark = pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")


def test_one_mask_per_class_and_none_for_background_and_void(build):
    dataset = Voc2012(build.voc())
    assert len(dataset) == 2 and dataset.id_of(0) == "2007_000033"
    sample, numbers = dataset[0], build.voc_numbers()
    assert sample.texts == ("aeroplane", "dining table")
    assert sample.labels == (0, 10)
    assert sample.mask_ids == ("2007_000033/aeroplane", "2007_000033/diningtable")
    assert np.array_equal(sample.masks, np.stack([numbers == 1, numbers == 11]))
    assert not sample.masks[:, numbers == 255].any()
    assert sample.dropped == ()


def test_there_are_20_classes_spelled_out_or_raw(build):
    root = build.voc()
    spelled, raw = Voc2012(root).classes, Voc2012(root, names="raw").classes
    assert raw == CLASSES and len(set(raw)) == 20
    differing = [(a, b) for a, b in zip(raw, spelled, strict=True) if a != b]
    assert differing == [
        ("diningtable", "dining table"),
        ("pottedplant", "potted plant"),
        ("tvmonitor", "tv monitor"),
    ]
    assert Voc2012(root, names="raw")[0].texts == ("aeroplane", "diningtable")


@pytest.mark.parametrize("dropped", ["dining table", "diningtable"])
def test_a_class_can_be_dropped_from_candidates_and_masks(build, dropped):
    dataset = Voc2012(build.voc(), drop_classes=[dropped])
    assert len(dataset.classes) == 19 and "dining table" not in dataset.classes
    assert dataset[0].texts == ("aeroplane",)
    assert dataset.classes[11 - 1] == "dog"


def test_labels_count_the_classes_that_are_left(build):
    sample = Voc2012(build.voc(), drop_classes=["aeroplane"])[0]
    assert (sample.texts, sample.labels) == (("dining table",), (9,))


def test_an_image_of_background_only_has_no_mask(build):
    sample = Voc2012(build.voc(numbers=np.full((24, 32), 255)))[0]
    assert sample.masks.shape == (0, 24, 32) and sample.texts == ()


def test_label_maps_turned_into_colours_are_an_error(build):
    root = build.voc()
    (path,) = root.rglob("2007_000033.png")
    Image.open(path).convert("RGB").save(path)
    with pytest.raises(DataError, match="palette indices or grey values, found mode RGB"):
        Voc2012(root)[0]


def test_numbers_of_no_class_are_an_error(build):
    with pytest.raises(DataError, match=r"class numbers 0\.\.255, found 21, 254"):
        Voc2012(build.voc(numbers=build.voc_numbers() + 20 * (build.voc_numbers() == 1)
                          + 243 * (build.voc_numbers() == 11)))[0]  # fmt: skip


def test_masks_of_another_size_are_resized(build):
    root = build.voc()
    (path,) = root.rglob("2007_000033.jpg")
    build.photo(path, (64, 48))
    sample = Voc2012(root)[0]
    assert sample.tags == {"annotated_size": (32, 24)}
    expected = np.kron(build.voc_numbers() == 1, np.ones((2, 2), bool))
    assert np.array_equal(sample.masks[0], expected)


@pytest.mark.parametrize("below", ["", "VOCdevkit", "VOCdevkit/VOC2012"])
def test_the_root_may_be_any_of_three_folders(build, below):
    assert len(Voc2012(build.voc() / below)) == 2


def test_other_counts_than_published_are_a_warning_with_both(build):
    with pytest.warns(DataWarning, match="2 images instead of 1,449"):
        Voc2012(build.voc())


def test_missing_files_are_listed_with_their_address(build, tmp_path):
    with pytest.raises(DataError) as caught:
        Voc2012(tmp_path)
    for part in (
        "ImageSets/Segmentation/val.txt", "SegmentationClass", "VOCdevkit/VOC2012/JPEGImages",
        "VOCtrainval_11-May-2012.tar",
    ):  # fmt: skip
        assert part in str(caught.value)
    root = build.voc()
    (path,) = root.rglob("2007_000042.png")
    path.unlink()
    with pytest.raises(DataError, match=r"1 of 2 label maps are missing.*2007_000042\.png"):
        Voc2012(root)
    dataset = Voc2012(root, allow_missing=True)
    assert dataset[0].id == "2007_000033"
    with pytest.raises(DataError, match=r"2007_000042\.png: no such file"):
        dataset[1]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "test"}, "train, val, trainval"),
        ({"names": "long"}, "spelled or raw"),
        ({"drop_classes": ["unicorn"]}, "found 'unicorn'"),
    ],
)
def test_unknown_options(build, options, message):
    with pytest.raises(DataError, match=message):
        Voc2012(build.voc(), **options)


def test_the_list_may_start_with_a_byte_order_mark(build):
    root = build.voc()
    (path,) = root.rglob("ImageSets/Segmentation/val.txt")
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert Voc2012(root).id_of(0) == "2007_000033"
