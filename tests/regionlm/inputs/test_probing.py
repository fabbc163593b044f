"""Ramps say where a processor put the pixels of a picture."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from regionlm.inputs.probing import input_to_picture


def shades(picture: Image.Image) -> torch.Tensor:
    return torch.from_numpy(np.array(picture.convert("RGB"))).permute(2, 0, 1).float()


def squash(side: int):
    return lambda picture: shades(picture.resize((side, side), Image.Resampling.BILINEAR))


@given(st.integers(1, 300), st.integers(1, 300), st.integers(4, 96))
@example(1, 300, 10)  # shades of one pixel: no slope, but for rounding
@example(254, 47, 84)  # shades rounded the same way all along half of the picture
@example(3578, 575, 255)
def test_what_is_squashed_is_brought_back(width, height, side):
    rows, columns = input_to_picture(squash(side), (width, height))
    assert rows.shape == (height, side) and columns.shape == (width, side)
    for matrix in (rows, columns):
        count = len(matrix)
        assert (matrix >= 0).all()
        torch.testing.assert_close(matrix.sum(1), torch.ones(count))
        # The place of each pixel: that of the published resizing, to a pixel of the input.
        wanted = (torch.arange(count) + 0.5) * side / count - 0.5
        found = matrix @ torch.arange(side, dtype=torch.float32)
        assert (found - wanted.clamp(0, side - 1)).abs().max() < 1


@pytest.mark.parametrize("size", [(640, 480), (90, 40), (33, 32)])
def test_what_is_cut_off_is_zero(size):
    side = min(size)
    left = (size[0] - side) // 2

    def crop(picture: Image.Image) -> torch.Tensor:
        return shades(picture.crop((left, 0, left + side, side)).resize((24, 24)))

    rows, columns = input_to_picture(crop, size)
    assert (rows.sum(1) > 0).all()
    inside = columns.sum(1) > 0
    assert abs(int(inside.sum()) - side) <= 2 * max(1, side // 24)
    assert inside[left + 2 : left + side - 2].all()


def test_one_pixel_fills_all_that_is_seen():
    def crop(picture: Image.Image) -> torch.Tensor:
        return shades(picture.crop((3, 0, 4, 5)).resize((24, 24)))

    rows, columns = input_to_picture(crop, (7, 5))
    assert (rows.sum(1) > 0).all()
    assert columns.sum(1).nonzero().flatten().tolist() == [3]


def test_padding_is_left_out():
    def pad(picture: Image.Image) -> torch.Tensor:
        small = shades(picture.resize((40, 20), Image.Resampling.BILINEAR))
        return F.pad(small, (0, 0, 10, 10))

    rows, columns = input_to_picture(pad, (80, 40))
    assert not rows[:, :10].any() and not rows[:, 30:].any()
    torch.testing.assert_close(rows.sum(1), torch.ones(40))
    torch.testing.assert_close(columns.sum(1), torch.ones(80))


@given(st.integers(1, 200), st.integers(1, 200))
@example(200, 1)
@example(4, 151)  # less than a place wide, over two of them
@example(1, 187)  # shades of one column, nearly black
def test_padded_to_a_square(width, height):
    longer = max(width, height)

    def pad(picture: Image.Image) -> torch.Tensor:
        square = Image.new("RGB", (longer, longer))
        square.paste(picture, ((longer - width) // 2, (longer - height) // 2))
        return shades(square.resize((48, 48), Image.Resampling.BILINEAR))

    for matrix, count in zip(input_to_picture(pad, (width, height)), (height, width), strict=True):
        torch.testing.assert_close(matrix.sum(1), torch.ones(count))
        start = (longer - count) // 2
        wanted = (torch.arange(count) + start + 0.5) * 48 / longer - 0.5
        found = matrix @ torch.arange(48, dtype=torch.float32)
        # Ends are mixed with padding: by a place, or by a pixel where that is more.
        assert (found - wanted.clamp(0, 47)).abs().max() < max(2, 48 / longer)
