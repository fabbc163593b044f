"""LeGrad of some of its query rows, and which ones."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import example, given
from hypothesis import strategies as st

from regionlm.relevance import LeGrad, make_relevance
from regionlm.relevance.few_rows import few_rows
from regionlm.relevance.legrad_autograd import attention_gradient


class Grid:
    """What ``few_rows`` reads of encoded images."""

    def __init__(self, height, width, prefix=1):
        self.grid, self.residual = (height, width), torch.zeros(1)
        self.head = self
        self.prefix, self.pooling = prefix, "cls"


def masked_legrad(head, block_input, grid, tokens, rows):
    with torch.enable_grad():
        _, gradient = attention_gradient(head, block_input, tokens, None)
        chosen = gradient.clamp(min=0)[:, :, rows] / gradient.shape[2]
        chosen = chosen * (len(gradient[0, 0, head.score_tokens]) / len(rows))
        return chosen.mean(1).sum(1)[:, head.prefix :].view(-1, *grid)


def test_map_of_some_rows_is_the_masked_sum(case):
    """And so is its derivative, against automatic differentiation of the whole attention."""
    backbone, encoded, inputs, grid = case
    head = encoded.head
    tokens = F.normalize(torch.randn(3, backbone.dim, dtype=torch.float64), dim=1)
    weights = torch.randn(3, *grid, dtype=torch.float64)
    every = torch.arange(encoded.residual.shape[1])[head.score_tokens]
    for rows in (every[::3], every[torch.tensor([-1, 0])], every[-1:], every):
        found = LeGrad(encoded, 1, rows=rows, masks=3)
        maps = found.forward(tokens)
        seen = tokens.clone().requires_grad_()
        expected = masked_legrad(head, inputs[1], grid, seen, rows)
        (gradient,) = torch.autograd.grad((expected * weights).sum(), seen)
        assert (maps - expected).abs().max() < 1e-12 + 1e-9 * expected.abs().max()
        miss = (found.backward(weights) - gradient).abs().max()
        assert miss < 1e-12 + 1e-9 * gradient.abs().max()


def test_the_default_is_all_rows(case):
    backbone, encoded, _, _ = case
    tokens = F.normalize(torch.randn(2, backbone.dim, dtype=torch.float64), dim=1)
    every = torch.arange(encoded.residual.shape[1])[encoded.head.score_tokens]
    some = LeGrad(encoded, rows=every, masks=2).forward(tokens)
    whole = LeGrad(encoded, masks=2).forward(tokens)
    torch.testing.assert_close(some, whole, rtol=1e-9, atol=0)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 80), st.integers(0, 5))
@example(21, 25, 35, 0)  # a stride of 15: 34 patches
def test_rows_are_patches_spread_evenly(height, width, count, prefix):
    rows = few_rows(Grid(height, width, prefix), count)
    if height * width < 2 * count:
        assert rows is None
        return
    assert rows.unique().equal(rows)
    assert rows[0] == prefix and rows[-1] < prefix + height * width
    if min(height, width) >= height * width // count:  # each line has its share
        assert count - 1 <= len(rows) < 2 * count + max(height, width)
        per_line = torch.bincount((rows - prefix) // width, minlength=height)
        assert per_line.min() >= 1 and per_line.max() - per_line.min() <= 1


def test_neighbours_are_far_apart():
    rows = few_rows(Grid(28, 28), 49) - 1  # a stride of 16: a grid of 4 by 4, or as good
    places = torch.stack([rows // 28, rows % 28], 1).double()
    apart = torch.cdist(places, places).fill_diagonal_(99)
    assert len(rows) == 49 and apart.min() == 4


@pytest.mark.parametrize("name", ["gradcam", "chefer"])
def test_other_methods_have_all_rows(case, name):
    backbone, encoded, _, _ = case
    tokens = F.normalize(torch.randn(1, backbone.dim, dtype=torch.float64), dim=1)
    whole = make_relevance(name, backbone, encoded).forward(tokens)
    assert make_relevance(name, backbone, encoded, rows=2).forward(tokens).equal(whole)
