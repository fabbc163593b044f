import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from regionlm.embedders.dice import GridDice
from regionlm.relevance.resize import GridToMask


def published_dice(maps, patch, masks):
    """Image-sized and differentiable: two interpolations, min-max between, soft Dice."""
    wide = F.interpolate(maps[:, None], scale_factor=patch, mode="bilinear", align_corners=False)
    low, high = wide.amin((2, 3), keepdim=True), wide.amax((2, 3), keepdim=True)
    unit = F.interpolate(
        (wide - low) / (high - low), size=masks.shape[1:], mode="bilinear", align_corners=False
    )[:, 0].flatten(1)
    target = masks.flatten(1).to(unit)
    overlap = (unit * target).sum(1)
    return 1 - (2 * overlap + 1) / (unit.sum(1) + target.sum(1) + 1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 7), st.integers(2, 7), st.integers(1, 6), st.integers(1, 6),
    st.integers(1, 50), st.integers(1, 50), st.integers(0, 10**6),
)  # fmt: skip
def test_equals_the_image_sized_dice(gh, gw, ph, pw, height, width, seed):
    generator = torch.Generator().manual_seed(seed)
    maps = torch.rand(3, gh, gw, generator=generator).double().requires_grad_()
    masks = torch.rand(3, height, width, generator=generator) < 0.4
    wanted = published_dice(maps, (ph, pw), masks)
    (gradient,) = torch.autograd.grad(wanted.sum(), maps)
    dice = GridDice(GridToMask.of((gh, gw), (ph, pw), (height, width), maps.detach()), masks)
    loss, found = dice(maps.detach())
    torch.testing.assert_close(loss, wanted.detach(), atol=1e-9, rtol=0)
    torch.testing.assert_close(found, gradient, atol=1e-8, rtol=1e-6)
    part, _ = dice(maps.detach()[1:2], slice(1, 3))  # one map, two masks
    torch.testing.assert_close(part[0], loss[1], atol=1e-12, rtol=0)


def test_constant_maps_have_a_loss_but_no_gradient():
    masks = torch.zeros(2, 10, 10, dtype=torch.bool)
    masks[0, :3], masks[1] = True, True
    maps = torch.full((2, 3, 3), 0.7)
    loss, gradient = GridDice(GridToMask.of((3, 3), (4, 4), (10, 10), maps), masks)(maps)
    torch.testing.assert_close(loss, 1 - 1 / torch.tensor([31.0, 101.0]))
    assert gradient.count_nonzero() == 0


def test_masks_are_gathered_in_parts(monkeypatch):
    masks = torch.rand(5, 9, 8) < 0.5
    resize = GridToMask.of((2, 2), (4, 4), (9, 8), torch.zeros(1))
    whole = GridDice(resize, masks).inside
    monkeypatch.setattr("regionlm.embedders.dice._PIXELS_AT_ONCE", 150)
    torch.testing.assert_close(GridDice(resize, masks).inside, whole)
