"""Tiny models of every kind that can be explained, with two encoded images each."""

import pytest
import torch

from regionlm.backbones import ClipViT

MODELS = [
    {"pool": "tok"},
    {"pool": "avg"},
    {"pool": "tok", "ls_init_value": 0.4},
    {"pool": "avg", "ls_init_value": 0.4, "quick_gelu": True},
    {"pool": "tok", "quick_gelu": True, "mlp_ratio": 2.5, "norm_kwargs": {"eps": 1e-2}},
    {"pool": "tok", "patch_size": (8, 4), "head_width": 16},
]


@pytest.fixture(params=MODELS, ids=str)
def case(request, tiny_clip):
    """Backbone, its encoded images, the inputs of its last block, the patch grid; in float64."""
    backbone = ClipViT(tiny_clip(**request.param).double())
    pixels = torch.randn(2, 3, 24, 40, dtype=torch.float64)
    with torch.no_grad():
        inputs, grid = backbone.trunk(pixels)
    return backbone, backbone.encode(pixels), inputs, grid
