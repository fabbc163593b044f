import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from regionlm.embedders.coverage import mask_coverage

SIDES = st.integers(1, 40)


@given(SIDES, SIDES, st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**31))
def test_area_is_kept_and_no_pixel_is_lost(height, width, rows, columns, seed):
    generator = torch.Generator().manual_seed(seed)
    masks = torch.rand(2, height, width, generator=generator) > 0.7
    masks[0] = False
    masks[0].view(-1)[seed % masks[0].numel()] = True
    found = mask_coverage(masks, (rows, columns))
    assert found.shape == (2, rows * columns)
    assert (found >= 0).all() and (found <= 1).all() and found[0].sum() > 0
    area = masks.flatten(1).double().mean(1)
    torch.testing.assert_close(found.double().mean(1), area, atol=1e-5, rtol=1e-5)


def test_it_is_the_average_over_a_patch():
    masks = torch.rand(3, 24, 40, generator=torch.Generator().manual_seed(0)) > 0.5
    wanted = F.avg_pool2d(masks.float(), 8).flatten(1)
    torch.testing.assert_close(mask_coverage(masks, (3, 5)), wanted)
    same = masks[:, :3, :5]
    assert torch.equal(mask_coverage(same, (3, 5)), same.flatten(1).float())


def test_patches_that_end_within_a_pixel_share_it():
    mask = torch.tensor([[[True, False, False]]])
    torch.testing.assert_close(mask_coverage(mask, (1, 2)), torch.tensor([[2 / 3, 0]]))
    torch.testing.assert_close(mask_coverage(mask, (2, 4)), torch.tensor([[1, 1 / 3, 0, 0] * 2]))
