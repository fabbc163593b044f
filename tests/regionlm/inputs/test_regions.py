"""Regions of every form, against their own definition and pycocotools."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco_mask

from regionlm.errors import InputError
from regionlm.inputs.coco_masks import mask_rle, rle_mask
from regionlm.inputs.regions import check_region, name_of, read_region

SIZE = (40, 30)
NOWHERE = Path("/none")
masks = arrays.arrays(bool, st.tuples(st.integers(1, 12), st.integers(1, 12)))


def _mask(**region: object) -> np.ndarray:
    check_region(region)
    [found] = read_region(region, 0, NOWHERE, SIZE)
    assert found.mask.shape == (30, 40) and found.mask.dtype == bool
    return found.mask


@given(masks)
def test_run_length_codes_are_pycocotools_own(mask: np.ndarray) -> None:
    height, width = mask.shape
    packed = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    runs = np.diff(np.flatnonzero(np.diff(mask.flatten("F"), prepend=False, append=[2])), prepend=0)
    for counts in (packed, runs.tolist()):
        found = rle_mask({"size": [height, width], "counts": counts}, (width, height))
        assert np.array_equal(found, mask)


@given(masks)
def test_a_mask_is_read_back_from_its_run_length_code(mask: np.ndarray) -> None:
    assert np.array_equal(rle_mask(mask_rle(mask), mask.shape[::-1]), mask)


@given(st.text(st.characters(min_codepoint=40, max_codepoint=120)) | st.lists(st.integers()))
def test_damaged_codes_never_give_a_mask(counts: object) -> None:
    """pycocotools takes a code that is too short, and leaves the other pixels to chance."""
    try:
        found = rle_mask({"size": [30, 40], "counts": counts}, SIZE)
    except InputError as error:
        assert "run-length code: expected" in str(error)
        return
    code = {"size": [30, 40], "counts": counts}
    if isinstance(counts, list):
        code = coco_mask.frPyObjects(code, 30, 40)
    assert np.array_equal(found, coco_mask.decode(code) > 0)


@pytest.mark.parametrize(
    ("code", "message"),
    [
        ({"size": [40, 30], "counts": [1200]}, r"expected size \[30, 40\]"),
        ({"size": [30, 40], "counts": [5, 5]}, "runs of 1200 pixels together, 40 x 30; found 10"),
        ({"size": [30, 40], "counts": [1300]}, "found more"),
        ({"size": [30, 40], "counts": [1205, -5]}, "whole numbers from 0"),
        ({"size": [30, 40], "counts": [600.0, 600.0]}, "whole numbers from 0"),
        ({"size": [30, 40], "counts": [True, 1199]}, "whole numbers from 0"),
        ({"size": [30, 40], "counts": 3}, "whole numbers from 0"),
        ({"size": [30, 40], "counts": "é"}, "found a misplaced 'é'"),
        ({"size": [30, 40], "counts": "o" * 20_000 + "0"}, "found a misplaced 'o'"),
        ({"size": [30, 40], "counts": [10**4000] * 20}, "found more"),
        ({"size": [30, 40], "counts": "P"}, "cut off"),
        ({"size": [30, 40], "counts": ""}, "found 0"),
        ({"size": [30, 40], "counts": [1200]}, "covers no pixel"),
    ],
)
def test_bad_codes(code: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        _mask(rle=code)
    assert str(caught.value).startswith("region rle 0: ")


def test_polygons_are_joined() -> None:
    left, right = [2, 3, 10, 3, 10, 9, 2, 9], [20.0, 3, 28, 3, 28, 9, 20, 9]
    wanted = np.zeros((30, 40), bool)
    wanted[3:9, 2:10] = True
    assert np.array_equal(_mask(polygon=[left]), wanted)
    assert np.array_equal(_mask(polygon=left), wanted)
    wanted[3:9, 20:28] = True
    assert np.array_equal(_mask(polygon=[left, right]), wanted)
    assert _mask(polygon=[[-1, -1, 41, -1, 41, 31, -1, 31]]).all()


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        ([[1, 1, 9, 9]], "three points or more; found 4 numbers"),
        ([[1, 1, 9, 1, 9, 9, 3]], "three points or more; found 7 numbers"),
        ([[[1, 1], [9, 1], [9, 9]]], "finite numbers"),
        ([[1, 1, 9, 1, 9, "9"]], "finite numbers"),
        ([[1, 1, 9, 1, 9, float("inf")]], "finite numbers"),
        ([[1, 1, 9, 1, 9, 10**500]], "finite numbers"),
        ([[1, 1, 9, 1, 9, 9], []], "three points or more; found 0 numbers"),
        ([[1, 1, 400, 1, 400, 30]], "reaches from 1 to 400 where 0 to 40 is inside"),
        ([[1, -300, 9, -300, 9, 9]], "reaches from -300 to 9 where 0 to 30 is inside"),
        ([[5, 5, 9, 9, 5, 5]], "covers no pixel"),
        ([[0.1, 0.1, 0.3, 0.1, 0.3, 0.3]], "covers no pixel"),
        ([[1, 1, 9, 1, 9, 9]] * 10_001, "at most 10000 of a region, found 10001"),
        ([[0, 1, 39, 2] * 13_000], "an outline of at most 1000000 pixels, found 1040000"),
    ],
)
def test_bad_polygons(polygon: list, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        _mask(polygon=polygon)
    assert str(caught.value).startswith("region polygon 0: ")


def test_boxes_are_those_of_the_command_line() -> None:
    wanted = np.zeros((30, 40), bool)
    wanted[2:12, 1:31] = True
    assert np.array_equal(_mask(box=[1, 2, 30.6, 12]), wanted)
    with pytest.raises(InputError, match=r"X0 < X1"):
        _mask(box=[9, 9, 3, 3])


@pytest.mark.parametrize(
    ("region", "name"),
    [
        ({"box": [1, 2, 30, 25.5]}, "box 1,2,30,25.5"),
        ({"box": [1, 2, 30, 25], "id": "cat"}, "cat"),
        ({"polygon": [[1, 1, 9, 1, 9, 9]], "id": 12}, "12"),
        ({"polygon": [[1, 1, 9, 1, 9, 9]]}, "polygon 4"),
        ({"rle": {"size": [1, 1], "counts": [1]}}, "rle 4"),
        ({"mask": "a/m.png"}, "a/m.png"),
    ],
)
def test_names(region: dict, name: str) -> None:
    assert name_of(region, 4) == name


def test_points_are_the_mask_that_is_found_for_them() -> None:
    region = {"points": [[3, 4], [5, 6, 0]]}
    check_region(region)
    mask = np.eye(30, 40, dtype=bool)
    [found] = read_region(region, 0, NOWHERE, SIZE, lambda points: mask)
    assert found.name == "points 3,4:5,6,0" and found.mask is mask
    with pytest.raises(InputError, match=r"outside the image, which is 40 x 30"):
        read_region({"points": [[40, 4]]}, 0, NOWHERE, SIZE, lambda points: mask)
    with pytest.raises(InputError, match="can't be used here"):
        read_region(region, 0, NOWHERE, SIZE)
