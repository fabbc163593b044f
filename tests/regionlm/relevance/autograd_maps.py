"""Other relevance maps of the last block by plain automatic differentiation."""

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from regionlm.backbones.vision import Head
from regionlm.relevance.legrad_autograd import attention_gradient, score_sum
from regionlm.relevance.score import Score


def chefer_autograd(
    head: Head,
    block_input: Tensor,
    grid: tuple[int, int],
    tokens: Tensor,
    score: Score | None = None,
) -> Tensor:
    """CheferCAM's maps; arguments and result as ``legrad_autograd``."""
    with torch.inference_mode(False), torch.enable_grad():
        attention, gradient = attention_gradient(head.at(grid), block_input, tokens, score)
        relevance = (attention * gradient).clamp(min=0).mean(1)
        rows = slice(head.prefix, None) if head.pooling == "mean" else slice(0, 1)
        return relevance[:, rows].mean(1)[:, head.prefix :].view(-1, *grid)


def gradcam_autograd(
    head: Head,
    block_input: Tensor,
    grid: tuple[int, int],
    tokens: Tensor,
    score: Score | None = None,
    *,
    relu: bool = True,
) -> Tensor:
    """GradCAM's maps; arguments and result as ``legrad_autograd``."""
    with torch.inference_mode(False), torch.enable_grad():
        x = block_input.detach().clone()[None].expand(len(tokens), -1, -1)
        is_pool, block = head.pooling == "attention", head.at(grid).block
        seen = (x if is_pool else block(x)).detach().requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):  # the only one that can be differentiated twice
            out = block(seen) if is_pool else seen
        (gradient,) = torch.autograd.grad(
            score_sum(head, out, tokens, score), seen, create_graph=True
        )
        alpha = gradient[:, head.prefix :].sum(1)
        maps = torch.einsum("mnk,mk->mn", seen.detach()[:, head.prefix :], alpha).view(-1, *grid)
        return maps.clamp(min=0) if relu else maps
