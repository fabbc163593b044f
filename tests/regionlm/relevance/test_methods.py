"""What every relevance method must do."""

from dataclasses import replace
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from regionlm.backbones import ClipViT
from regionlm.errors import InputError
from regionlm.relevance import (
    RELEVANCE,
    Budget,
    CheferCam,
    GradCam,
    LeGrad,
    default_score,
    make_relevance,
)
from regionlm.relevance.legrad_autograd import legrad_autograd
from tests.regionlm.relevance.autograd_maps import chefer_autograd, gradcam_autograd

METHODS = {
    "legrad": (LeGrad, legrad_autograd),
    "gradcam": (GradCam, gradcam_autograd),
    "gradcam_no_relu": (partial(GradCam, relu=False), partial(gradcam_autograd, relu=False)),
    "chefer": (CheferCam, chefer_autograd),
}
BUDGETS = {
    "roomy": Budget(chunk=10**7, piece=10**7, keep=10**7),
    "one mask at a time": Budget(chunk=1, piece=10**7, keep=10**7),
    "row blocks, nothing kept": Budget(chunk=1, piece=50, keep=0),
    "head by head, some kept": Budget(chunk=10**7, piece=400, keep=3000),
    "row blocks, some kept": Budget(chunk=1, piece=50, keep=300),
}

every_method = pytest.mark.parametrize("name", RELEVANCE)


def unit_tokens(count, dim=24):
    return F.normalize(torch.randn(count, dim, dtype=torch.float64), dim=1)


def close(found, wanted):
    scale = wanted.abs().max()
    torch.testing.assert_close(found / scale, wanted / scale, atol=1e-10, rtol=0)


def test_every_name_is_tested():
    assert set(METHODS) == set(RELEVANCE)


@every_method
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_closed_form_equals_double_backward(case, name, score):
    backbone, encoded, inputs, grid = case
    make, autograd = METHODS[name]
    tokens = unit_tokens(3).requires_grad_()
    wanted = autograd(backbone.head(), inputs[1], grid, tokens, score)
    weights = torch.randn_like(wanted)
    (gradient,) = torch.autograd.grad((wanted * weights).sum(), tokens)
    assert ((wanted >= 0).all() or name == "gradcam_no_relu") and wanted.max() > 0
    assert gradient.abs().max() > 0
    for budget in BUDGETS.values():
        method = make(encoded, 1, score=score, masks=3, budget=budget)
        assert method.grid == grid and method.chunk == (1 if budget.chunk == 1 else 3)
        maps, gradients = [], []
        for part, weight in zip(
            tokens.split(method.chunk), weights.split(method.chunk), strict=True
        ):
            maps.append(method.forward(part))
            gradients.append(method.backward(weight))
        close(torch.cat(maps), wanted)
        close(torch.cat(gradients), gradient)
        assert not maps[0].requires_grad


@every_method
@pytest.mark.parametrize("budget", BUDGETS)
def test_many_losses_of_one_map(case, name, budget):
    """The shared first step: one token, one map, a gradient per loss."""
    encoded = case[1]
    method = METHODS[name][0](encoded, masks=4, budget=BUDGETS[budget])
    token, weights = unit_tokens(1), torch.randn(4, *encoded.grid, dtype=torch.float64)
    method.forward(token)
    together = method.backward(weights)
    for one, weight in zip(together, weights, strict=True):
        close(one, method.backward(weight[None])[0])


@every_method
def test_the_map_grows_with_the_token(case, name):
    method, token = METHODS[name][0](case[1]), unit_tokens(1)
    close(method.forward(3 * token), 3 * method.forward(token).clone())


@every_method
def test_scores_by_pooling(case, name):
    backbone, encoded, inputs, grid = case
    make, autograd = METHODS[name]
    score = default_score(backbone.head())
    assert score == ("cosine" if backbone.pooling == "cls" else "dot")
    token = unit_tokens(1)
    close(make(encoded).forward(token), autograd(backbone.head(), inputs[0], grid, token, score))


@every_method
def test_cosine_at_its_maximum_has_an_empty_map(tiny_clip, name):
    """A mean-pooled model's own embedding: no rounding noise may pose as a map."""
    make = METHODS[name][0]
    encoded = ClipViT(tiny_clip("avg")).encode(torch.randn(1, 3, 32, 32))
    method = make(encoded, score="cosine")
    start = F.normalize(encoded.embeddings, dim=1)
    assert method.forward(start).count_nonzero() == 0
    gradient = method.backward(torch.ones(1, 4, 4))
    assert gradient.isfinite().all()
    assert gradient.count_nonzero() == 0 or name == "gradcam_no_relu"  # whose map has no kink
    assert make(encoded, score="dot").forward(start).count_nonzero() > 0


@every_method
def test_float32_stays_close_to_float64(tiny_clip, name):
    make = METHODS[name][0]
    model = tiny_clip(width=64, layers=3)
    pixels, token = torch.randn(1, 3, 64, 64), unit_tokens(1)
    found = make(ClipViT(model).encode(pixels)).forward(token.float())
    wanted = make(ClipViT(model.double()).encode(pixels.double())).forward(token)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double() / wanted.max(), wanted / wanted.max(), atol=1e-5,
                               rtol=0)  # fmt: skip


@every_method
def test_half_precision_models_are_explained_in_float32(tiny_clip, name):
    encoded = ClipViT(tiny_clip().bfloat16()).encode(torch.randn(1, 3, 32, 32))
    method = METHODS[name][0](encoded)
    maps = method.forward(unit_tokens(1).float())
    assert maps.dtype == torch.float32 and torch.isfinite(maps).all()
    assert method.backward(torch.ones_like(maps)).dtype == torch.float32


@every_method
def test_methods_by_name(case, name):
    backbone, encoded, inputs, _ = case
    before = inputs.clone()
    token = unit_tokens(1)
    made = make_relevance(name, backbone, encoded, 1, score="dot", masks=2)
    direct = METHODS[name][0](encoded, 1, score="dot", masks=2)
    assert type(made) is type(direct) and made.chunk == direct.chunk
    assert torch.equal(made.forward(token), direct.forward(token))
    assert torch.equal(inputs, before)


def test_unknown_names_are_refused(case):
    with pytest.raises(InputError, match="legrad, gradcam, gradcam_no_relu, chefer; found 'cam'"):
        make_relevance("cam", *case[:2])


@pytest.mark.parametrize("layers", [1, 2, 3, 99])
@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_layers_are_summed_as_autograd_sums_them(case, layers, score):
    """LeGrad's own code: each block as if it were the last, norm and projection the model's."""
    backbone, _, _, grid = case
    pixels = torch.randn(2, 3, 24, 40, dtype=torch.float64)
    encoded = backbone.encode(pixels, layers=layers)
    blocks = backbone.blocks()[-layers:]
    assert len(encoded.earlier) == len(blocks) - 1
    tokens = unit_tokens(3).requires_grad_()
    wanted = 0
    for count, block in enumerate(reversed(blocks), start=1):
        with torch.no_grad():
            inputs, _ = backbone.trunk(pixels, without=count)
        head = backbone.head()  # an attention pool reads the output of each block
        head = head if head.pooling == "attention" else replace(head, block=block)
        wanted = wanted + legrad_autograd(head, inputs[1], grid, tokens, score)
    weights = torch.randn_like(wanted)
    (gradient,) = torch.autograd.grad((wanted * weights).sum(), tokens)
    for one, index in ((encoded, 1), (encoded.split()[1], 0)):
        method = make_relevance("legrad", backbone, one, index, score=score, masks=3)
        assert method.chunk == 3
        close(method.forward(tokens.detach()), wanted)
        close(method.backward(weights), gradient)
