"""Tiny models of every kind that can be explained, with two encoded images each."""

import pytest
import torch

from regionlm.backbones import ClipViT
from tests.regionlm.tiny_timm import EVA02, PE, VITAMIN, tiny_timm

MODELS = [
    {"pool": "tok"},
    {"pool": "avg"},
    {"pool": "tok", "ls_init_value": 0.4},
    {"pool": "avg", "ls_init_value": 0.4, "quick_gelu": True},
    {"pool": "tok", "quick_gelu": True, "mlp_ratio": 2.5, "norm_kwargs": {"eps": 1e-2}},
    {"pool": "tok", "patch_size": (8, 4), "head_width": 16},
    {"attentional_pool": True, "attn_pooler_queries": 3, "attn_pooler_heads": 4},
]
TIMM_MODELS = [
    {"timm": {"reg_tokens": 2, "init_values": 0.3}},
    {"timm": {"pool": "avg", "fc_norm": True, "class_token": False, "patch_size": (8, 4)}},
    {"timm": {"pool": "avg", "fc_norm": True, "reg_tokens": 1}},
    {"timm": {"name": "regionlm_tiny_eva", **EVA02}},
    {"timm": VITAMIN},
    {"timm": {"name": "regionlm_tiny_eva", **PE, "swiglu_mlp": True}},
    {"timm": {"pool": "map", "class_token": False}},
    {"timm": {"pool": "map", "pool_include_prefix": True, "reg_tokens": 1, "patch_size": (8, 4)}},
]


@pytest.fixture(params=[*MODELS, *TIMM_MODELS], ids=str)
def case(request, tiny_clip):
    """Backbone, its encoded images, the inputs of its last block, the patch grid; in float64."""
    timm = request.param.get("timm")
    model = tiny_clip(**request.param) if timm is None else tiny_timm(**timm)
    backbone = ClipViT(model.double())
    pixels = torch.randn(2, 3, 24, 40, dtype=torch.float64)
    with torch.no_grad():
        inputs, grid = backbone.trunk(pixels)
    return backbone, backbone.encode(pixels), inputs, grid
