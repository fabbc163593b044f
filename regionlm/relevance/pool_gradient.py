"""The gradient of a score at the tokens that an attention pool reads, as a matrix."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from regionlm.backbones.attention_pool import AttentionPool
from regionlm.relevance.query_map import centred, standardised


def summed_token_gradient(pool: AttentionPool, tokens: Tensor, first: int) -> Tensor:
    """``[D, A]``: from a gradient at the mixed values to the sum, over the tokens ``first`` and
    later, of the gradients at these tokens.

    A token acts through its value, and through its key on all attention. With ``p_j`` a head's
    attention and ``v`` its values, a gradient q at the mixed values gives ``p_j q`` at value j, and
    ``p_j (v_j - sum_i p_i v_i) . q`` at logit j. Behind both is the pool's norm, whose transposed
    Jacobian is ``(I - x^ x^^T / D) (I - 1 1^T / D) / sigma``.

    Args:
        pool: without a norm of its keys.
        tokens: ``[N, D]``, the input of the pool.
        first: number of tokens whose gradient does not count.
    """
    wide = torch.promote_types(tokens.dtype, torch.float32)
    query, keys, values = (part[0].to(wide) for part in pool.qkv(tokens[None]))
    scale = query.shape[-1] ** -0.5
    attention = (query @ keys.transpose(1, 2) * scale).softmax(-1)[:, 0, :, None]
    by_logit = attention * (values - (attention * values).sum(1, keepdim=True))  # [heads, N, dh]

    to_key, to_value = (  # [heads, dh, D]
        weight.to(wide).view(pool.heads, -1, tokens.shape[1]) for weight in pool.qkv_weight
    )
    to_logit = (query @ to_key)[:, 0] * scale  # [heads, D]
    found = tokens[first:].to(wide)
    if pool.raw:
        through_keys = by_logit[:, first:].sum(1)[:, :, None] * to_logit[:, None]
        through_values = attention[:, first:].sum(1)[:, :, None] * to_value
        return (through_keys + through_values).flatten(0, 1).T

    norm = pool.norm_1.to(wide)
    hat, inverse_sigma = standardised(found, norm.eps)
    by_logit = by_logit[:, first:] * inverse_sigma
    by_value = attention[:, first:] * inverse_sigma  # [heads, n, 1]
    to_logit, to_value = centred(to_logit * norm.weight), centred(to_value * norm.weight)
    total = by_logit.sum(1)[:, :, None] * to_logit[:, None] + by_value.sum(1)[:, :, None] * to_value
    # What the norm removes along each normalised token.
    shares = by_logit * F.linear(to_logit, hat)[:, :, None]
    shares = shares + by_value * F.linear(hat, to_value.flatten(0, 1)).view(
        len(hat), pool.heads, -1
    ).transpose(0, 1)
    return (total - shares.transpose(1, 2) @ hat / hat.shape[1]).flatten(0, 1).T
