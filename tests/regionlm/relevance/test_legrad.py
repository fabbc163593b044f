import pytest
import torch
import torch.nn.functional as F

from regionlm.backbones import ClipViT
from regionlm.relevance import Budget, LeGrad, MergedWeights, default_score
from regionlm.relevance.autograd import legrad_autograd

MODELS = [
    {"pool": "tok"},
    {"pool": "avg"},
    {"pool": "tok", "ls_init_value": 0.4},
    {"pool": "avg", "ls_init_value": 0.4, "quick_gelu": True},
    {"pool": "tok", "quick_gelu": True, "mlp_ratio": 2.5, "norm_kwargs": {"eps": 1e-2}},
    {"pool": "tok", "patch_size": (8, 4), "head_width": 16},
]
BUDGETS = {
    "roomy": Budget(chunk=10**7, piece=10**7, keep=10**7),
    "one mask at a time": Budget(chunk=1, piece=10**7, keep=10**7),
    "row blocks, nothing kept": Budget(chunk=1, piece=50, keep=0),
    "head by head, some kept": Budget(chunk=10**7, piece=400, keep=3000),
    "row blocks, some kept": Budget(chunk=1, piece=50, keep=300),
}


def unit_tokens(count, dim=24):
    return F.normalize(torch.randn(count, dim, dtype=torch.float64), dim=1)


def close(found, wanted):
    scale = wanted.abs().max()
    torch.testing.assert_close(found / scale, wanted / scale, atol=1e-10, rtol=0)


@pytest.fixture(params=MODELS, ids=str)
def case(request, tiny_clip):
    backbone = ClipViT(tiny_clip(**request.param).double())
    pixels = torch.randn(2, 3, 24, 40, dtype=torch.float64)
    with torch.no_grad():
        inputs, grid = backbone.trunk(pixels)
    return backbone, backbone.encode(pixels), inputs, grid


@pytest.mark.parametrize("score", ["cosine", "dot"])
def test_factored_equals_double_backward(case, score):
    backbone, encoded, inputs, grid = case
    tokens = unit_tokens(3).requires_grad_()
    wanted = legrad_autograd(backbone.head(), inputs[1], grid, tokens, score)
    weights = torch.randn_like(wanted)
    (gradient,) = torch.autograd.grad((wanted * weights).sum(), tokens)
    assert (wanted >= 0).all() and wanted.max() > 0 and gradient.abs().max() > 0
    for budget in BUDGETS.values():
        legrad = LeGrad(encoded, 1, score=score, masks=3, budget=budget)
        maps, gradients = [], []
        for part, weight in zip(
            tokens.split(legrad.chunk), weights.split(legrad.chunk), strict=True
        ):
            maps.append(legrad.forward(part))
            gradients.append(legrad.backward(weight))
        close(torch.cat(maps), wanted)
        close(torch.cat(gradients), gradient)
        assert not maps[0].requires_grad


def test_buffers_do_not_grow_with_masks(case):
    encoded = case[1]
    sizes = []
    for masks in (100, 5000):
        legrad = LeGrad(encoded, masks=masks, budget=Budget(100_000, 1000, 2000))
        assert legrad.chunk < 100
        owners = (legrad._queries, legrad._attention)
        held = [v for o in owners for v in vars(o).values() if isinstance(v, torch.Tensor)]
        sizes.append(sum(v.numel() for v in held))
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize("name", BUDGETS)
def test_many_losses_of_one_map(case, name):
    """The shared first step: one token, one map, a gradient per loss."""
    encoded = case[1]
    legrad = LeGrad(encoded, masks=4, budget=BUDGETS[name])
    token, weights = unit_tokens(1), torch.randn(4, *encoded.grid, dtype=torch.float64)
    legrad.forward(token)
    together = legrad.backward(weights)
    for one, weight in zip(together, weights, strict=True):
        close(one, legrad.backward(weight[None])[0])


def test_the_map_is_linear_in_length_only(case):
    legrad, token = LeGrad(case[1]), unit_tokens(1)
    close(legrad.forward(3 * token), 3 * legrad.forward(token).clone())


def test_scores_by_pooling(case):
    backbone, encoded, inputs, grid = case
    score = default_score(backbone.head())
    assert score == ("dot" if backbone.pooling == "mean" else "cosine")
    token = unit_tokens(1)
    wanted = legrad_autograd(backbone.head(), inputs[0], grid, token)
    close(LeGrad(encoded).forward(token), wanted)


def test_cosine_at_its_maximum_has_an_empty_map(tiny_clip):
    """A mean-pooled model's own embedding: no rounding noise may pose as a map."""
    backbone = ClipViT(tiny_clip("avg"))
    encoded = backbone.encode(torch.randn(1, 3, 32, 32))
    legrad = LeGrad(encoded, score="cosine")
    start = F.normalize(encoded.embeddings, dim=1)
    assert legrad.forward(start).count_nonzero() == 0
    assert legrad.backward(torch.ones(1, 4, 4)).count_nonzero() == 0
    assert LeGrad(encoded, score="dot").forward(start).count_nonzero() == 16


def test_float32_stays_close_to_float64(tiny_clip):
    model = tiny_clip(width=64, layers=3)
    pixels, token = torch.randn(1, 3, 64, 64), unit_tokens(1)
    found = LeGrad(ClipViT(model).encode(pixels)).forward(token.float())
    wanted = LeGrad(ClipViT(model.double()).encode(pixels.double())).forward(token)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double() / wanted.max(), wanted / wanted.max(), atol=1e-5,
                               rtol=0)  # fmt: skip


def test_half_precision_models_are_explained_in_float32(tiny_clip):
    encoded = ClipViT(tiny_clip().bfloat16()).encode(torch.randn(1, 3, 32, 32))
    maps = LeGrad(encoded).forward(unit_tokens(1).float())
    assert maps.dtype == torch.float32 and torch.isfinite(maps).all()


def test_merged_weights_name_all_their_sources(tiny_clip):
    """Changing any one of them changes the result, and no other tensor of the block does."""
    block = ClipViT(tiny_clip(ls_init_value=0.5)).head().block
    before = MergedWeights.of(block)
    sources = {id(t) for t in MergedWeights.sources(block)}
    fields = [*vars(block).values(), block.norm_2.weight, block.norm_2.bias]
    fields += [block.norm_1.weight]
    for tensor in (f for f in fields if isinstance(f, torch.Tensor)):
        with torch.no_grad():
            kept = tensor.clone()
            tensor.add_(torch.randn_like(tensor))
            after = MergedWeights.of(block)
            tensor.copy_(kept)
        same = all(torch.equal(a, b) for a, b in
                   zip(vars(before).values(), vars(after).values(), strict=True))  # fmt: skip
        assert same == (id(tensor) not in sources)
