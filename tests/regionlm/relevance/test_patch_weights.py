"""Weights of patches, from a map and how much of each patch its mask covers."""

import hypothesis.strategies as st
import torch
from hypothesis import given

from regionlm.relevance.patch_weights import patch_weights

PICTURE = torch.ones(12)


@st.composite
def cases(draw):
    generator = torch.Generator().manual_seed(draw(st.integers(0, 10**6)))
    maps = torch.rand(2, 3, 4, generator=generator)
    if draw(st.booleans()):
        maps = (maps * draw(st.sampled_from([1, 3]))).round()  # ties, and maps without contrast
    coverage = torch.rand(2, 12, generator=generator)
    if draw(st.booleans()):
        coverage = coverage.round()
    return maps, coverage


@given(cases())
def test_as_many_as_the_mask_is_large_and_the_most_relevant(case):
    maps, coverage = case
    weights = patch_weights(maps, coverage, PICTURE)
    assert weights.shape == (2, 12) and (weights >= 0).all() and (weights <= 1).all()
    for one, row, cover in zip(maps.flatten(1), weights, coverage, strict=True):
        count = max(1, min(12, round(float(cover.sum()))))
        least = one.sort(descending=True).values[count - 1]
        assert (row == 1).sum() >= count
        assert (row[one > least] == 1).all()
        assert (row[one < least] < 1).all() or (cover >= PICTURE).all()


@given(cases())
def test_scale_and_offset_of_a_map_do_not_matter(case):
    maps, coverage = case
    torch.testing.assert_close(
        patch_weights(4 * maps + 8, coverage, PICTURE), patch_weights(maps, coverage, PICTURE),
        atol=1e-5, rtol=1e-4,
    )  # fmt: skip


def test_the_whole_picture_leaves_nothing_out():
    picture = torch.tensor([0.0, 0.5, 1, 1, 1, 1, 1, 1, 1, 1, 0.5, 0])
    maps = torch.rand(1, 3, 4)
    assert (patch_weights(maps, picture[None], picture) == 1).all()
    assert (patch_weights(maps, torch.ones(1, 12), PICTURE) == 1).all()


def test_a_perfect_map_gives_its_mask():
    mask = (torch.arange(12) % 3 == 0).float()
    assert torch.equal(patch_weights(mask.view(1, 3, 4), mask[None], PICTURE), mask[None])


def test_a_map_without_contrast_leaves_it_to_the_mask():
    mask = (torch.arange(12) < 5).float()
    for constant in (0.0, 2.0):
        maps = torch.full((1, 3, 4), constant)
        assert torch.equal(patch_weights(maps, mask[None], PICTURE), mask[None])


def test_less_relevant_patches_count_in_proportion():
    maps = torch.tensor([[[1.0, 0.8, 0.4, 0.0]]])
    coverage = torch.tensor([[1.0, 1, 0, 0]])
    expected = torch.tensor([[1.0, 1, 0.5, 0]])
    torch.testing.assert_close(patch_weights(maps, coverage, torch.ones(4)), expected)
