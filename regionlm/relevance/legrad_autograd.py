"""LeGrad's maps of the last block by plain automatic differentiation: slow, obviously right.

`regionlm doctor` and the tests compare the closed form with them. They build the attention matrix
of every mask and differentiate twice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from regionlm.backbones.vision import Head
from regionlm.relevance.score import Score, default_score


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
        block_input: ``[prefix + gh * gw, D]`` tokens of one image before the last block.
        grid: (gh, gw).
        tokens: unit vectors of the joint space.
        score: as ``LeGrad``'s.
    """
    with torch.inference_mode(False), torch.enable_grad():
        _, gradient = attention_gradient(head.at(grid), block_input, tokens, score)
        return gradient.clamp(min=0).mean((1, 2))[:, head.prefix :].view(-1, *grid)


def attention_gradient(
    head: Head, block_input: Tensor, tokens: Tensor, score: Score | None
) -> tuple[Tensor, Tensor]:
    """The last block's attention and the score's gradient at it, both ``[m, heads, N, N]``."""
    x = block_input.detach().clone()[None].expand(len(tokens), -1, -1)
    queries, keys, values = head.block.qkv(x)
    logits = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
    attention = logits.softmax(-1).detach().requires_grad_()
    x1 = head.block.after_attention(x, attention @ values)
    out = head.block.after_mlp(x1)
    (gradient,) = torch.autograd.grad(
        score_sum(head, out, tokens, score), attention, create_graph=True
    )
    return attention.detach(), gradient


def score_sum(head: Head, out: Tensor, tokens: Tensor, score: Score | None) -> Tensor:
    """Sum of the scores of tokens ``[m, d]`` and the last block's outputs ``[m, N, D]``."""
    f = head.readout(out[:, head.score_tokens].mean(1))
    if (score or default_score(head)) == "cosine":
        f = f / f.norm(dim=1, keepdim=True)
    return (tokens * f).sum()
