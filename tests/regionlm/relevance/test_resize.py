import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from regionlm.relevance.resize import GridToMask, scale_to_unit

sides = st.integers(1, 9)
patches = st.integers(1, 7)
masks = st.integers(1, 70)


def two_stage(maps, patch, size):
    """The published code's way: scale up by the patch, min-max, resize to the mask."""
    wide = F.interpolate(maps[:, None], scale_factor=patch, mode="bilinear", align_corners=False)
    low, high = wide.amin((2, 3), keepdim=True), wide.amax((2, 3), keepdim=True)
    unit = (wide - low) / (high - low)
    return F.interpolate(unit, size=size, mode="bilinear", align_corners=False)[:, 0], low, high


@settings(max_examples=60, deadline=None)
@given(sides, sides, patches, patches, masks, masks, st.integers(0, 10**6))
def test_equals_the_two_interpolations(gh, gw, ph, pw, height, width, seed):
    maps = torch.rand(2, gh, gw, generator=torch.Generator().manual_seed(seed)).double()
    resize = GridToMask.of((gh, gw), (ph, pw), (height, width), maps)
    wanted, low, high = two_stage(maps, (ph, pw), (height, width))
    extremes = resize.extremes(maps)
    close = {"atol": 1e-9, "rtol": 0}
    torch.testing.assert_close(extremes.low, low.flatten(), **close)
    torch.testing.assert_close(extremes.high, high.flatten(), **close)
    for value, weights in ((low, extremes.low_weights), (high, extremes.high_weights)):
        torch.testing.assert_close((weights * maps).sum((1, 2)), value.flatten(), **close)
    unit, factor = scale_to_unit(maps, extremes)
    if gh * gw == 1:  # a single patch has no contrast
        assert unit.count_nonzero() == 0 and factor.count_nonzero() == 0
        return
    torch.testing.assert_close(resize.upsample(unit), wanted, **close)
    weights = torch.rand(2, height, width, dtype=torch.float64)
    sums = (resize.gather(weights) * unit).sum((1, 2))
    torch.testing.assert_close(sums, (wanted * weights).sum((1, 2)), atol=1e-7, rtol=1e-9)
    total = (resize.total_weights() * unit).sum((1, 2))
    torch.testing.assert_close(total, wanted.sum((1, 2)), atol=1e-7, rtol=1e-9)
    assert resize.size == (height, width)


def test_constant_maps_become_zeros():
    maps = torch.stack([torch.full((3, 4), 0.3), torch.zeros(3, 4), torch.rand(3, 4)])
    resize = GridToMask.of((3, 4), (16, 16), (50, 60), maps)
    unit, factor = scale_to_unit(maps, resize.extremes(maps))
    assert unit[:2].count_nonzero() == 0 and (factor[:2] == 0).all()
    assert factor[2] > 1 and torch.isfinite(unit).all()
