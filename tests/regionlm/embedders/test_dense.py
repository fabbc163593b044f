"""Defining properties of the dense embedders; test_published_embedders.py holds the numbers."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from regionlm.backbones import ClipViT
from regionlm.embedders import make_embedder
from regionlm.embedders.coverage import mask_coverage
from regionlm.embedders.dense import pool_patches

DENSE = ["maskclip", "clip_surgery", "sclip"]


def each_patch(rows=4, columns=4):
    return torch.eye(rows * columns, dtype=torch.bool).view(-1, rows, columns)


def patches(name, model, pixels, **options):
    """Unit vectors of the 16 patches."""
    return make_embedder(name, ClipViT(model), **options)(pixels, each_patch()).embeddings


def moved(before, after):
    return (before - after).abs().amax().item()


@pytest.mark.parametrize("name", DENSE)
@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_a_region_is_the_weighted_mean_of_unit_patches(tiny_clip, picture, masks, name, pool):
    embedder = make_embedder(name, ClipViT(tiny_clip(pool)), size=(24, 40))
    pixels = embedder.backbone.preprocess(picture, (24, 40))
    unit = embedder(pixels, each_patch(3, 5)).embeddings
    torch.testing.assert_close(unit.norm(dim=1), torch.ones(15))
    coverage = mask_coverage(torch.as_tensor(masks), (3, 5))
    wanted = torch.stack([(unit * c[:, None]).sum(0) / c.sum() for c in coverage])
    torch.testing.assert_close(embedder(picture, masks).embeddings, wanted, atol=1e-5, rtol=1e-4)
    corner = torch.stack([unit[14]])  # the pixel in the corner has its patch
    torch.testing.assert_close(embedder(picture, masks[3:]).embeddings, corner)


@settings(max_examples=25)
@given(st.integers(1, 30), st.integers(0, 2**31), st.floats(1e-6, 1e3))
def test_pooling_is_a_mean_whatever_the_weights_scale(count, seed, scale):
    generator = torch.Generator().manual_seed(seed)
    tokens = torch.randn(count, 8, generator=generator)
    weights = torch.rand(3, count, generator=generator) + 0.01
    found = pool_patches(tokens, weights * scale)
    torch.testing.assert_close(found, pool_patches(tokens, weights), atol=1e-5, rtol=1e-4)
    assert (found.norm(dim=1) <= 1 + 1e-5).all()
    only = torch.zeros(1, count)
    only[0, seed % count] = scale
    torch.testing.assert_close(
        pool_patches(tokens, only)[0], F.normalize(tokens, dim=1)[seed % count]
    )


@pytest.mark.parametrize("name", ["maskclip", "clip_surgery"])
def test_queries_and_keys_of_the_last_block_do_not_matter(tiny_clip, name):
    model, pixels = tiny_clip(), torch.randn(3, 32, 32)
    before = patches(name, model, pixels)
    image = ClipViT(model).embed_images(pixels[None])
    attention = model.visual.transformer.resblocks[-1].attn
    attention.in_proj_weight.data[:64] += torch.randn(64, 32)
    assert moved(ClipViT(model).embed_images(pixels[None]), image) > 1e-3
    assert moved(patches(name, model, pixels), before) == 0
    attention.in_proj_weight.data[64:] += torch.randn(32, 32)
    assert moved(patches(name, model, pixels), before) > 1e-3


def test_what_maskclip_keeps_of_the_last_block(tiny_clip):
    """Its value path, the residual stream and the MLP; the values alone on request."""
    model, pixels = tiny_clip(), torch.randn(3, 32, 32)
    before = {only: patches("maskclip", model, pixels, value_only=only) for only in (False, True)}
    backbone = ClipViT(model)
    with torch.no_grad():
        x, _ = backbone.trunk(pixels[None])
        block, head = backbone.blocks()[-1], backbone.head()
        normed = block.norm_1(x)
        value = F.linear(normed, block.qkv_weight[64:], block.qkv_bias[64:])
        alone = F.linear(value, block.out_weight, block.out_bias)
        wanted = F.normalize(head.readout(alone[0, 1:]), dim=1)
    torch.testing.assert_close(before[True], wanted, atol=1e-5, rtol=1e-4)
    model.visual.transformer.resblocks[-1].mlp.c_proj.weight.data *= 2
    assert moved(patches("maskclip", model, pixels), before[False]) > 1e-3
    assert moved(patches("maskclip", model, pixels, value_only=True), before[True]) == 0


def test_a_change_elsewhere_reaches_a_maskclip_patch_through_earlier_blocks_only(tiny_clip):
    """With one block there are none: each patch knows itself alone; sclip's patches mix."""
    model, pixels = tiny_clip(layers=1), torch.randn(3, 32, 32)
    other = pixels.clone()
    other[:, :8, :8] += 1  # the first patch
    for name, mixes in (("maskclip", False), ("sclip", True), ("clip_surgery", True)):
        change = (patches(name, model, pixels) - patches(name, model, other)).abs().amax(1)
        assert change[0] > 1e-3
        assert (change[1:] > 0).all() if mixes else (change[1:] < 1e-6).all()


def test_sclip_attends_by_queries_to_queries_and_keys_to_keys(tiny_clip):
    """Written out for one head at a time, with the rows of each softmax adding up to one."""
    model, pixels = tiny_clip(), torch.randn(3, 32, 32)
    backbone = ClipViT(model)
    with torch.no_grad():
        x, _ = backbone.trunk(pixels[None])
        block, head = backbone.blocks()[-1], backbone.head()
        q, k, v = F.linear(block.norm_1(x), block.qkv_weight, block.qkv_bias)[0].chunk(3, dim=1)
        mixed = []
        for at in range(0, 32, 8):
            a, b = q[:, at : at + 8], k[:, at : at + 8]
            weights = (a @ a.T / 8**0.5).softmax(1) + (b @ b.T / 8**0.5).softmax(1)
            mixed.append(weights @ v[:, at : at + 8])
        x1 = x[0] + F.linear(torch.cat(mixed, 1), block.out_weight, block.out_bias)
        wanted = F.normalize(head.readout(block.after_mlp(x1))[1:], dim=1)
    torch.testing.assert_close(patches("sclip", model, pixels), wanted, atol=1e-5, rtol=1e-4)


def test_clip_surgery_adds_value_attention_to_the_stream_without_mlps(tiny_clip):
    model, pixels = tiny_clip(layers=4), torch.randn(3, 32, 32)
    backbone = ClipViT(model)
    with torch.no_grad():
        stream, _ = backbone.trunk(pixels[None], without=2)
        second = stream
        for block in backbone.blocks()[2:]:
            v = F.linear(block.norm_1(stream), block.qkv_weight[64:], block.qkv_bias[64:])[0]
            heads = [v[:, at : at + 8] for at in range(0, 32, 8)]
            mixed = torch.cat([(h @ h.T / 8**0.5).softmax(1) @ h for h in heads], 1)
            second = second + F.linear(mixed, block.out_weight, block.out_bias)
            stream = block(stream)
        wanted = F.normalize(backbone.head().readout(second[0, 1:]), dim=1)
    found = patches("clip_surgery", model, pixels, blocks=2)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-4)
    assert moved(patches("clip_surgery", model, pixels), found) > 1e-3  # all four by default
    assert moved(patches("clip_surgery", model, pixels, blocks=4),
                 patches("clip_surgery", model, pixels, blocks=9)) == 0  # fmt: skip
    model.visual.transformer.resblocks[-1].mlp.c_proj.weight.data *= 2
    assert moved(patches("clip_surgery", model, pixels, blocks=2), found) == 0


@pytest.mark.parametrize("name", DENSE)
def test_layer_scale_is_kept(tiny_clip, name):
    pixels = torch.randn(3, 32, 32)
    model = tiny_clip(ls_init_value=0.3)
    before = patches(name, model, pixels)
    model.visual.transformer.resblocks[-1].ls_1.gamma.data *= 2
    assert moved(patches(name, model, pixels), before) > 1e-3


@pytest.mark.parametrize("name", DENSE)
def test_masks_of_any_size_on_the_same_pixels(tiny_clip, name):
    """A mask enlarged by whole factors is the same region."""
    embedder = make_embedder(name, ClipViT(tiny_clip()))
    pixels, mask = torch.randn(3, 24, 40), np.zeros((1, 7, 9), bool)
    mask[0, 2:5, 1:8] = True
    large = mask.repeat(5, 1).repeat(3, 2)
    wanted = embedder(pixels, mask).embeddings
    torch.testing.assert_close(embedder(pixels, large).embeddings, wanted, atol=1e-5, rtol=1e-4)
