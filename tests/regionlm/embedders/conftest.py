"""Any embedder on any tiny CLIP, and pictures and masks to ask it about."""

import numpy as np
import pytest
from PIL import Image

from regionlm.embedders import make_embedder


@pytest.fixture
def make(write_alphaclip):
    """make_embedder; alphaclip gets the backbone's own weights and a random mask convolution."""

    def build(name, backbone, **options):
        if name == "alphaclip" and "checkpoint" not in options:
            options["checkpoint"] = write_alphaclip(backbone.model)
            options.setdefault("quick_gelu", False)
        return make_embedder(name, backbone, **options)

    return build


@pytest.fixture
def picture():
    """RGB noise, 40 wide and 30 high."""
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8))


@pytest.fixture
def masks():
    """bool [4, 30, 40]: a box, another, ragged, one pixel in the corner."""
    found = np.zeros((4, 30, 40), bool)
    found[0, 3:17, 5:21] = found[1, 10:29, 22:39] = True
    found[2] = np.random.default_rng(1).random((30, 40)) > 0.8
    found[3, 29, 39] = True
    return found
