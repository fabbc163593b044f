import numpy as np
import pytest
from PIL import Image

from regionlm.datasets.data_errors import DataError, DataWarning
from regionlm.datasets.openimages import OpenImages

pytestmark = pytest.mark.filterwarnings("ignore::regionlm.datasets.data_errors.DataWarning")


def test_ids_stay_text_and_every_mask_is_named(build):
    dataset = OpenImages(build.openimages())
    assert dataset.classes == ("Man, tall", "Person")
    assert [dataset.id_of(i) for i in range(3)] == [
        "1230000000000e45",
        "0000000000000456",
        "a77c122b0eaa5d16",
    ]
    sample = dataset[0]
    assert sample.mask_ids == (
        "1230000000000e45_m04yx4_9a041d52",
        "1230000000000e45_m01g317_9a041d53",
    )
    assert (sample.texts, sample.labels) == (("Man, tall", "Person"), (0, 1))


def test_masks_of_any_mode_are_resized_to_the_image(build):
    dataset = OpenImages(build.openimages())
    left, top = np.zeros((30, 40), bool), np.zeros((30, 40), bool)
    left[:, :20], top[:15] = True, True
    assert np.array_equal(dataset[0].masks, np.stack([left, left]))  # 1-bit and colour
    assert np.array_equal(dataset[1].masks, top[None])  # grey
    assert all(sample.tags == {"annotated_size": (80, 60)} for sample in dataset)


def test_a_mask_of_0_and_1_is_read(build):
    root = build.openimages()
    (path,) = root.rglob("0000000000000456_*.png")
    Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8)).save(path)
    assert OpenImages(root)[1].masks[0].sum() == 15 * 40


@pytest.mark.parametrize(
    "folder",
    [
        "{split}-masks",
        "{split}-masks/{letter}",
        "{split}-masks/{capital}",
        "{split}-masks/{split}-masks-{letter}",
        "{split}-masks-{letter}",
        "masks/{split}/{letter}",
        "masks",
    ],
)
def test_masks_are_found_in_every_layout(build, folder):
    assert len(list(OpenImages(build.openimages(folder=folder)))) == 3


@pytest.mark.parametrize(
    ("names", "classes"),
    [
        ("class-descriptions-boxable.csv", "classes-segmentation.txt"),
        ("oidv6-class-descriptions.csv", "classes-segmentation.txt"),
        ("oidv7-class-descriptions.csv", "oidv7-classes-segmentation.txt"),
    ],
)
def test_class_files_of_all_releases_with_a_header_or_without(build, names, classes):
    dataset = OpenImages(build.openimages(names=names, classes=classes))
    assert dataset.classes == ("Man, tall", "Person")


def test_proportions_within_rounding_are_the_same_and_others_are_an_error(build):
    assert OpenImages(build.openimages(size=(81, 60)))[0].masks.shape == (2, 30, 40)
    with pytest.raises(DataError, match=r"45\.jpg: expected 60 x 60 pixels .* found 40 x 30"):
        OpenImages(build.openimages(size=(60, 60)))[0]


def test_a_mask_of_other_proportions_than_its_neighbours_is_an_error(build):
    root = build.openimages()
    (path,) = root.rglob("*9a041d53.png")
    Image.new("1", (60, 60)).save(path)
    with pytest.raises(DataError, match=r"9a041d53\.png: expected 40 x 30 .* found 60 x 60"):
        OpenImages(root)[0]


def test_an_image_stored_on_its_side_is_turned_when_the_masks_say_so(build):
    root = build.openimages()
    build.photo(root / "validation" / "0000000000000456.jpg", (30, 40), turn=6)
    sample = OpenImages(root)[1]
    assert sample.image.size == (40, 30)


def test_splits(build):
    assert len(OpenImages(build.openimages(split="test"), "test")) == 3
    with pytest.raises(DataError, match="validation, test, train"):
        OpenImages(build.openimages(), "val")


def test_images_may_lie_elsewhere(build, tmp_path):
    root = build.openimages()
    (root / "validation").rename(tmp_path / "jpgs")
    assert len(list(OpenImages(root, images=tmp_path / "jpgs"))) == 3


def test_an_image_that_lacks_one_of_its_masks_cannot_be_read(build):
    root = build.openimages()
    (path,) = root.rglob("*9a041d53.png")
    path.unlink()
    with pytest.raises(DataError, match="1 of 4 masks are missing"):
        OpenImages(root)
    dataset = OpenImages(root, allow_missing=True)
    with pytest.raises(DataError, match=r"9a041d53\.png: no such file"):
        dataset[0]
    assert [dataset[i].id for i in (1, 2)] == ["0000000000000456", "a77c122b0eaa5d16"]


def test_masks_of_classes_that_are_not_listed_are_left_out_with_a_warning(build):
    masks = [*build.open_masks, ("b00000000000000b", "/m/0zzz", "00000002")]
    with pytest.warns(DataWarning, match="1 of 5 masks are of classes.*/m/0zzz"):
        assert len(OpenImages(build.openimages(masks=masks))) == 3


def test_other_counts_than_published_are_a_warning_with_both(build):
    with pytest.warns(DataWarning) as caught:
        OpenImages(build.openimages())
    (message,) = [str(warning.message) for warning in caught]
    for part in ("3 images instead of 13,524", "4 masks instead of 24,730", "2 classes instead of"):
        assert part in message


def test_missing_files_are_listed_with_their_addresses(tmp_path):
    with pytest.raises(DataError) as caught:
        OpenImages(tmp_path, "test")
    for part in (
        "test-annotations-object-segmentation.csv", "classes-segmentation.txt",
        "class-descriptions-boxable.csv", "test-masks", "images/test",
        "https://storage.googleapis.com/openimages/v5",
    ):  # fmt: skip
        assert part in str(caught.value)


def test_class_files_that_do_not_fit_are_an_error(build):
    root = build.openimages()
    build.write(root / "class-descriptions-boxable.csv", "/m/01g317,Person\n")
    with pytest.raises(DataError, match="no name for 1 of 2 classes, for example /m/04yx4"):
        OpenImages(root)
    build.write(root / "classes-segmentation.txt", "Person\n")
    with pytest.raises(DataError, match="a class id like /m/04yx4 on each line"):
        OpenImages(root)


def test_another_csv_is_an_error(build):
    root = build.openimages()
    build.write(root / "validation-annotations-object-segmentation.csv", "ImageID,Source\n")
    with pytest.raises(DataError, match="expected columns MaskPath, ImageID, LabelName; without"):
        OpenImages(root)


def test_a_list_that_is_cut_off_is_an_error(build):
    root = build.openimages()
    path = root / "validation-annotations-object-segmentation.csv"
    whole = path.read_text().rstrip()
    path.write_text(whole[: whole.rindex("a77c122b0eaa5d16,") + 9])
    with pytest.raises(DataError, match=r"a77c122b0eaa5d16_m04yx4_9a041d54\.png is cut off"):
        OpenImages(root)


@pytest.mark.parametrize(
    "name",
    [
        "classes-segmentation.txt",
        "class-descriptions-boxable.csv",
        "validation-annotations-object-segmentation.csv",
    ],
)
def test_text_files_may_start_with_a_mark_and_must_be_utf_8(build, name):
    root = build.openimages()
    content = (root / name).read_bytes()
    (root / name).write_bytes(b"\xef\xbb\xbf" + content)
    assert OpenImages(root).classes == ("Man, tall", "Person")
    (root / name).write_bytes(b"\xff" + content)
    with pytest.raises(DataError, match=rf"{name}.*'utf-8' codec can't decode byte 0xff"):
        OpenImages(root)
