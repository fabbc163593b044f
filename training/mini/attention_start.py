"""A CLIP that pools the mean of its patches as the start of one that pools with attention."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from open_clip import CLIP
from torch import Tensor

POOLER = "visual.attn_pool."


def attention_start(weights: Mapping[str, Tensor], clip: CLIP) -> dict[str, Tensor]:
    """The state of an attention-pooled `clip` that begins with the weights of a mean-pooled one.

    Trunk and text tower are the same. The pooler's values are the old embedding of each token
    (normalised, then projected), so that as long as it attends everywhere alike, the pooled vector
    is close to the old one. Its query and keys stay as they are, at random.

    Args:
        weights: of a CLIP like `clip` but for the pooling.
        clip: to be loaded with the result; unchanged.
    """
    state = dict(clip.state_dict())
    state.update((name, value) for name, value in weights.items() if name in state)
    norm, proj = "visual.ln_post.", weights["visual.proj"]  # [D, d]
    dim = proj.shape[1]
    for part in ("weight", "bias"):
        state[POOLER + "ln_k." + part] = weights[norm + part]
    state[POOLER + "attn.v_proj_weight"] = proj.T.contiguous()
    state[POOLER + "attn.out_proj.weight"] = torch.eye(dim)
    state["visual.proj"] = torch.eye(dim)
    state[norm + "weight"], state[norm + "bias"] = torch.ones(dim), torch.zeros(dim)
    return state
