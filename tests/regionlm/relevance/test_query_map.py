"""Gradients at attention's mixed values, of blocks with any choice of parts, by autograd."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from regionlm.relevance.query_map import MergedWeights, QueryMap
from tests.regionlm.relevance.random_blocks import PARTS, normal, random_block, split, tensors_of

GRID, TOKENS = (2, 3), 7

any_parts = st.sets(st.sampled_from(PARTS)).map(frozenset)
any_kind = st.sampled_from(["gelu", "gelu_tanh", "quick_gelu", "silu"])


def gradients(block, x, u):
    """``[m, n, A]``, by autograd: of the sum over tokens of the block's output times ``u``."""
    block = block.at(GRID)
    mixed, _ = block.mix(x[None])
    mixed = mixed.detach().expand(len(u), *mixed.shape[1:]).requires_grad_()
    out = block.after_mlp(x + block.attention_output(mixed))
    (found,) = torch.autograd.grad((out * u[:, None]).sum(), mixed)
    return found.transpose(1, 2).flatten(2)


def query_map(block, x, capacity):
    block = block.at(GRID)
    mixed, _ = block.mix(x[None])
    residual = x + block.attention_output(mixed)[0]
    mixed = mixed[0].transpose(0, 1).flatten(1) if block.norm_mixed is not None else None
    before = block.mlp_input(residual)
    return QueryMap(MergedWeights.of(block), block, residual, before, capacity, mixed)


def close(found, wanted):
    scale = wanted.abs().max()
    torch.testing.assert_close(found / scale, wanted / scale, atol=1e-11, rtol=0)


@given(any_parts, any_kind, st.integers(0, 2**31))
@settings(max_examples=60, deadline=None)
def test_equals_autograd_and_its_backward_is_the_transpose(parts, kind, seed):
    torch.manual_seed(seed)
    block, x, u = random_block(parts, kind), normal(TOKENS, 12), normal(3, 12)
    found = query_map(block, x, 3)
    q = found.forward(u).clone()
    close(q, gradients(block, x, u))
    dq = normal(*q.shape)
    close((found.backward(dq) * u).sum(1), (q * dq).sum((1, 2)))


@given(any_parts, any_kind, st.integers(0, 2**31), st.lists(st.integers(1, 3), min_size=1))
@settings(max_examples=60, deadline=None)
def test_several_images_together_are_what_each_is_alone(parts, kind, seed, counts):
    torch.manual_seed(seed)
    block = random_block(parts, kind)
    maps = [query_map(block, normal(TOKENS, 12), count) for count in counts]
    u, together = normal(sum(counts), 12), QueryMap.together(maps, counts)
    q = together.forward(u).clone()
    dq = normal(*q.shape)
    du = together.backward(dq)
    for one, *its in zip(maps, *(every.split(counts) for every in (u, q, dq, du)), strict=True):
        assert torch.equal(one.forward(its[0]), its[1])
        assert torch.equal(one.backward(its[2]), its[3])


@pytest.mark.parametrize("part", [*PARTS, None])
def test_merged_weights_name_all_their_sources(part):
    """Changing any one of them changes the result, and no other tensor of the block does."""
    block = random_block(frozenset(PARTS) - {part})
    before, sources = MergedWeights.of(block), MergedWeights.sources(block)
    for tensor in tensors_of(block).values():
        kept = tensor.clone()
        tensor += torch.randn_like(tensor)
        after = MergedWeights.of(block)
        tensor.copy_(kept)
        same = all(torch.equal(a, b) for a, b in
                   zip(vars(before).values(), vars(after).values(), strict=True))  # fmt: skip
        assert same != any(tensor is source for source in sources)


@pytest.mark.parametrize("gated", [True, False])
def test_layers_side_by_side_compute_what_one_does(gated):
    parts = frozenset({"biases"} | ({"gated"} if gated else set()))
    block, x = random_block(parts), normal(2, 7, 12)
    torch.testing.assert_close(split(block)(x), block(x), atol=1e-12, rtol=1e-12)
    bare = replace(block, qkv_bias=None, fc_bias=None)
    for same in (split(bare), replace(split(bare), qkv_bias=None, fc_bias=None)):
        torch.testing.assert_close(same(x), bare(x), atol=1e-12, rtol=1e-12)
    one = split(block)
    with pytest.raises(ValueError, match="zip"):
        replace(one, qkv_bias=one.qkv_bias[:1])(x)


def test_a_block_with_rotary_positions_depends_on_the_grid():
    block, x = random_block(frozenset({"rotary"})), normal(1, 7, 12)
    plain = random_block(frozenset())
    assert plain.at(GRID) is plain
    assert not torch.allclose(block.at((2, 3))(x), block.at((3, 2))(x))
    again = block.at((3, 2)).at((2, 3))
    assert torch.equal(again(x), block.at((2, 3))(x))
    assert again.at((2, 3)).rotary is again.rotary  # whoever moved its table keeps it
    with pytest.raises(RuntimeError, match="need a patch grid"):
        block(x)
