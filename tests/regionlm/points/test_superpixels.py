"""Regions grown by colour: what they cover, and what points leave out."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from regionlm.errors import InputError
from regionlm.extras import MissingExtraError
from regionlm.inputs.points import Point
from regionlm.points.segmenter import load_segmenter
from regionlm.points.superpixels import Superpixels


def two_squares(size=(120, 80)):
    """Red and blue on grey, with a little noise; also the masks of both."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(120, 130, (size[1], size[0], 3))
    red, blue = (np.zeros(pixels.shape[:2], bool) for _ in range(2))
    red[20:50, 15:45] = True
    blue[25:60, 70:100] = True
    pixels[red], pixels[blue] = (220, 30, 30), (30, 40, 220)
    return Image.fromarray(pixels.astype(np.uint8)), red, blue


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def test_a_click_marks_the_thing_around_it():
    image, red, blue = two_squares()
    segmenter = load_segmenter()
    assert segmenter.method == "superpixel" and "without SAM" in segmenter.note
    found = segmenter.mask(image, [Point(30, 30)])
    assert iou(found, red) > 0.7 and not (found & ~red).any()
    assert iou(segmenter.mask(image, [Point(30, 30), Point(85, 40)]), red | blue) > 0.7


def test_a_hole_is_filled_unless_a_point_leaves_it_out():
    image, _, _ = two_squares()
    pixels = np.array(image)
    pixels[30:40, 25:35] = (30, 220, 30)
    image = Image.fromarray(pixels)
    assert Superpixels().mask(image, [Point(18, 22)])[35, 30]
    left = Superpixels().mask(image, [Point(18, 22), Point(30, 35, False)])
    assert left[22, 18] and not left[35, 30]


def test_points_of_one_colour_can_not_be_told_apart():
    image = Image.new("RGB", (50, 40), "white")
    with pytest.raises(InputError, match="same colour"):
        Superpixels().mask(image, [Point(5, 5), Point(45, 35, False)])


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (900, 500), (500, 1300)])
def test_any_size_gives_a_mask_of_it(size):
    pixels = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3)).astype(np.uint8)
    mask = Superpixels().mask(Image.fromarray(pixels), [Point(size[0] / 2, size[1] / 2)])
    assert mask.shape == size[::-1] and mask.dtype == bool and mask.any()


@given(st.integers(0, 119), st.integers(0, 79))
def test_where_it_is_not_enlarged_the_point_is_inside(x, y):
    image, _, _ = two_squares()
    assert Superpixels().mask(image, [Point(x + 0.5, y + 0.5)])[y, x]


def test_without_scikit_image_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "skimage.segmentation", None)
    image, _, _ = two_squares()
    with pytest.raises(MissingExtraError, match=r"regionlm\[serve\]"):
        Superpixels().mask(image, [Point(30, 30)])
