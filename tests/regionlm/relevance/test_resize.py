import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from regionlm.inputs.placement import Placement
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


@settings(max_examples=60, deadline=None)
@given(st.data(), sides, sides, patches, patches, masks, masks)
def test_padding_is_cut_off_first(data, gh, gw, ph, pw, height, width):
    """Extremes, sums and maps of the image's part, wherever it lies and however it ends."""
    size = (gh * ph, gw * pw)
    top, left = (data.draw(st.integers(0, side - 1)) for side in size)
    tall, wide = data.draw(st.integers(1, size[0] - top)), data.draw(st.integers(1, size[1] - left))
    placed = Placement(size, (top, left), (tall, wide))
    maps = torch.rand(2, gh, gw, dtype=torch.float64)
    rows = slice(top // ph, -(-(top + tall) // ph))
    columns = slice(left // pw, -(-(left + wide) // pw))
    part = maps[:, None, rows, columns]
    full = F.interpolate(part, scale_factor=(ph, pw), mode="bilinear", align_corners=False)
    cut = full[:, :, top - rows.start * ph :, left - columns.start * pw :][:, :, :tall, :wide]
    resize = GridToMask.of((gh, gw), (ph, pw), (height, width), maps, placed)
    found = resize.extremes(maps)
    close = {"atol": 1e-9, "rtol": 0}
    torch.testing.assert_close(found.low, cut.amin((1, 2, 3)), **close)
    torch.testing.assert_close(found.high, cut.amax((1, 2, 3)), **close)
    wanted = F.interpolate(cut, size=(height, width), mode="bilinear", align_corners=False)[:, 0]
    torch.testing.assert_close(resize.upsample(maps), wanted, **close)
    outside = torch.ones(gh, gw, dtype=torch.bool)
    outside[rows, columns] = False
    assert resize.total_weights()[outside].count_nonzero() == 0


def test_an_image_that_fills_the_input_gives_the_same_bits():
    like = torch.zeros(1)
    for grid, patch, size in (((3, 5), (16, 14), (50, 60)), ((7, 7), (32, 32), (99, 33))):
        whole = Placement.whole((grid[0] * patch[0], grid[1] * patch[1]))
        one, other = (GridToMask.of(grid, patch, size, like, at) for at in (None, whole))
        maps = torch.rand(2, *grid)
        assert one.upsample(maps).equal(other.upsample(maps))
        extremes = zip(
            vars(one.extremes(maps)).values(), vars(other.extremes(maps)).values(), strict=True
        )
        assert all(a.equal(b) for a, b in extremes)
