import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from eval.degrade import DEGRADATIONS, boxed, dilated, eroded

MASKS = arrays(bool, (2, 9, 11)).filter(lambda masks: masks.any((1, 2)).all())


@given(MASKS)
def test_none_is_empty_and_sizes_stay(masks):
    for change in DEGRADATIONS.values():
        changed = change(masks)
        assert changed.shape == masks.shape and changed.dtype == bool
        assert changed.any((1, 2)).all()


@given(MASKS)
def test_they_shrink_and_grow(masks):
    assert not (eroded(masks) & ~masks).any()
    assert not (masks & ~dilated(masks)).any()
    assert not (masks & ~boxed(masks)).any()


@given(st.integers(0, 8), st.integers(0, 10), st.integers(0, 8), st.integers(0, 10))
def test_boxes_are_those_of_the_extremes(top, left, bottom, right):
    masks = np.zeros((1, 9, 11), bool)
    masks[0, top, left] = masks[0, bottom, right] = True
    wanted = np.zeros((9, 11), bool)
    wanted[min(top, bottom) : max(top, bottom) + 1, min(left, right) : max(left, right) + 1] = True
    assert (boxed(masks)[0] == wanted).all()


def test_erosion_takes_two_pixels_but_not_at_the_frame():
    masks = np.zeros((2, 12, 12), bool)
    masks[0, 2:10, 2:10] = True
    masks[1] = True
    thinner = eroded(masks)
    assert thinner[0].sum() == 16 and thinner[1].all()


@pytest.mark.parametrize("name", DEGRADATIONS)
def test_names_are_the_settings(name):
    from typing import get_args

    from eval.settings import MaskQuality

    assert name in get_args(MaskQuality)
