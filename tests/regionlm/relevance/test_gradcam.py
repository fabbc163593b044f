import torch
import torch.nn.functional as F

from regionlm.backbones import ClipViT
from regionlm.relevance import Budget, GradCam


def test_without_relu_the_map_is_linear_in_the_token(case):
    cam = GradCam(case[1], relu=False)
    one, two = torch.randn(2, 1, 24, dtype=torch.float64)
    both = cam.forward(2 * one - two)
    torch.testing.assert_close(both, 2 * cam.forward(one) - cam.forward(two))
    assert both.min() < 0  # patches that speak against the token


def test_relu_takes_what_is_negative_and_its_gradient(case):
    encoded, token = case[1], torch.randn(1, 24, dtype=torch.float64)
    cut, whole = GradCam(encoded), GradCam(encoded, relu=False)
    values = whole.forward(token)
    assert torch.equal(cut.forward(token), values.clamp(min=0))
    against = (values < 0).double()
    assert against.sum() > 0 and cut.backward(against).count_nonzero() == 0
    assert whole.backward(against).count_nonzero() > 0


def silent(encoded):
    """A token that every patch speaks against, equally."""
    whole = GradCam(encoded, relu=False, score="dot")
    matrix = whole.backward(torch.eye(16, dtype=torch.float64).view(16, 4, 4))  # map = matrix @ t
    return F.normalize(-torch.linalg.pinv(matrix).sum(1), dim=0)[None]


def test_nothing_positive_is_an_empty_map(tiny_clip):
    encoded = ClipViT(tiny_clip().double()).encode(torch.randn(1, 3, 32, 32).double())
    token = silent(encoded)
    assert GradCam(encoded, relu=False, score="dot").forward(token).max() < 0
    cam = GradCam(encoded, score="dot")
    assert cam.forward(token).count_nonzero() == 0
    assert cam.backward(torch.randn(3, 4, 4).double()).count_nonzero() == 0


def test_the_budget_bounds_the_chunk(case):
    encoded = case[1]
    patches, heads = encoded.grid[0] * encoded.grid[1], encoded.values
    per_mask = patches + heads.shape[1] * heads.shape[3]
    assert GradCam(encoded, masks=10**6, budget=Budget(7 * per_mask, 1, 1)).chunk == 7
