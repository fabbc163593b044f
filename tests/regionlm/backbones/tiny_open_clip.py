"""A small architecture of open_clip's, and what the tests of loading ask of it."""

import pytest

from regionlm.backbones import load_backbone
from regionlm.errors import ModelError

WORDS = ["[pad]", "[unk]", "a", "dog", "cat", "[start]", "[end]"]
CONFIG = {
    "embed_dim": 16,
    "vision_cfg": {
        "image_size": 32,
        "patch_size": 8,
        "width": 32,
        "layers": 1,
        "head_width": 8,
        "pool_type": "avg",
        "final_ln_after_pool": True,
    },
    "text_cfg": {
        "context_length": 6,
        "vocab_size": len(WORDS),
        "width": 16,
        "heads": 2,
        "layers": 1,
    },
}


NAMED_CONFIG = {**CONFIG, "text_cfg": {**CONFIG["text_cfg"], "vocab_size": 49408}}


def activation_of(backbone):
    return backbone.head().block.activation.kind


def refused(message, *args, **options):
    with pytest.raises(ModelError, match=message) as caught:
        load_backbone(*args, device="cpu", **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)
