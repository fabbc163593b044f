"""Fixtures of evaluations: datasets on disk, and a small SAM."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.builders import build

__all__ = ["build", "tiny_sam"]


@pytest.fixture(scope="session")
def tiny_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a random SAM of 64 x 64 pixels and its processor."""
    import torch
    from transformers import SamConfig, SamImageProcessor, SamModel, SamProcessor

    small: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision = {"image_size": 64, "patch_size": 8, "window_size": 4, "global_attn_indexes": [1]}
    config = SamConfig(
        vision_config=small | vision | {"output_channels": 16, "num_pos_feats": 8},
        prompt_encoder_config={"hidden_size": 16, "image_size": 64, "patch_size": 8},
        mask_decoder_config=small | {"mlp_dim": 32},
    )
    model = SamModel(config)
    generator = torch.Generator().manual_seed(5)
    for weight in model.parameters():  # its own initial values make all boxes' masks alike
        torch.nn.init.normal_(weight, std=0.3, generator=generator)
    square = {"height": 64, "width": 64}
    folder = tmp_path_factory.mktemp("sam")
    model.save_pretrained(folder)
    SamProcessor(SamImageProcessor(size={"longest_edge": 64}, pad_size=square)).save_pretrained(
        folder
    )
    return folder
