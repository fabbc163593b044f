"""LeGrad of the last block by plain automatic differentiation: slow, large, obviously right.

The reference that tests and benchmarks hold ``relevance.legrad`` against. It builds the attention
matrix of every mask and differentiates through it twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regionlm.backbones.clip_vit import Head
from regionlm.relevance.legrad import Score, default_score


def legrad_autograd(
    head: Head,
    block_input: Tensor,
    grid: tuple[int, int],
    tokens: Tensor,
    score: Score | None = None,
) -> Tensor:
    """Relevance maps ``[m, gh, gw]``, differentiable in ``tokens [m, d]``.

    Args:
        head: ``ClipViT.head()``.
        block_input: ``[1 + gh * gw, D]`` tokens of one image before the last block.
        grid: (gh, gw).
        tokens: unit vectors of the joint space.
        score: as ``LeGrad``'s.
    """
    score = score or default_score(head)
    with torch.inference_mode(False), torch.enable_grad():
        x = block_input.detach().clone()[None].expand(len(tokens), -1, -1)
        queries, keys, values = head.block.qkv(x)
        logits = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
        attention = logits.softmax(-1).detach().requires_grad_()
        x1 = x + head.block.attention_output(attention @ values)
        out = x1 + head.block.mlp_output(head.block.activation(head.block.mlp_input(x1)))
        f = head.readout(out[:, head.score_tokens].mean(1))
        if score == "cosine":
            f = f / f.norm(dim=1, keepdim=True)
        (gradient,) = torch.autograd.grad((tokens * f).sum(), attention, create_graph=True)
        maps = gradient.clamp(min=0).mean((1, 2))[:, 1:]
    return maps.view(-1, *grid)
