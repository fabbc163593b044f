"""Attention rollout against explicit matrices, ours and open_clip's own."""

from dataclasses import replace

import pytest
import torch

from regionlm.backbones import ClipViT
from regionlm.relevance.budget import Budget
from regionlm.relevance.rollout import attention_rollout


def product(attentions):
    """``last @ ... @ first`` of ``(A + I)``, rows of sum 1, of ``[N, N]`` each."""
    found = torch.eye(len(attentions[0]), dtype=torch.float64)
    for attention in attentions:
        mixed = attention.double() + torch.eye(len(attention), dtype=torch.float64)
        found = mixed / mixed.sum(-1, keepdim=True) @ found
    return found


def naive(backbone, pixels):
    """The whole matrices of all layers."""
    blocks, attentions = backbone.blocks(), []
    with torch.no_grad():
        is_pooled = backbone.pooling == "attention"
        x, grid = backbone.trunk(pixels[None], without=len(blocks) + is_pooled)
        for block in (one.at(grid) for one in blocks):
            q, k, _ = block.qkv(x)
            attention = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
            attentions.append(attention[0].mean(0))
            x = block(x)
    head = backbone.head()
    rows = product(attentions)
    row = rows[head.pooled_tokens].mean(0)
    if is_pooled:
        q, k, _ = head.block.qkv(x)
        weights = (q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5).softmax(-1)
        row = weights[0].mean(0)[0].detach() @ rows
    return row[head.prefix :].view(grid)


@pytest.mark.parametrize("chunk", [None, 1, 400], ids=str)
def test_equals_the_product_of_whole_matrices(case, chunk, monkeypatch):
    backbone = case[0]
    pixels = torch.randn(3, 24, 40, dtype=torch.float64)
    if chunk is not None:  # a few queries at a time
        budget = replace(Budget.for_device(torch.device("cpu")), chunk=chunk)
        monkeypatch.setattr(Budget, "for_device", lambda device: budget)
    found = attention_rollout(backbone, pixels)
    assert found.dtype == torch.float64 and (found >= 0).all() and 0.05 < found.sum() <= 1 + 1e-9
    torch.testing.assert_close(found, naive(backbone, pixels), atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("pool", ["tok", "avg"])
def test_equals_that_of_open_clips_own_attention(tiny_clip, pool):
    """As its modules compute it, in the model's own forward."""
    model, attentions = tiny_clip(pool), []

    def record(module, args, kwargs):
        with torch.no_grad():
            kept = {name: value for name, value in kwargs.items() if name != "need_weights"}
            attentions.append(module.forward(*args, **kept, need_weights=True)[1][0])

    pixels = torch.randn(3, 32, 32)
    hooks = [
        block.attn.register_forward_pre_hook(record, with_kwargs=True)
        for block in model.visual.transformer.resblocks
    ]
    with torch.no_grad():
        model.encode_image(pixels[None])
    for hook in hooks:
        hook.remove()
    rows = product(attentions)
    row = rows[0] if pool == "tok" else rows[1:].mean(0)
    found = attention_rollout(ClipViT(model), pixels)
    torch.testing.assert_close(found.double(), row[1:].view(4, 4), atol=1e-6, rtol=1e-5)


def test_in_any_grad_mode_and_nothing_is_kept(tiny_clip):
    model = tiny_clip()
    pixels, backbone = torch.randn(3, 16, 48), ClipViT(model)
    wanted = attention_rollout(backbone, pixels)
    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = attention_rollout(backbone, pixels)
    assert found.equal(wanted) and not found.requires_grad and not found.is_inference()
    assert all(p.grad is None and p.requires_grad for p in model.parameters())
