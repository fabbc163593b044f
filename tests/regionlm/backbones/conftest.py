import open_clip
import pytest
import torch


@pytest.fixture
def tiny_clip():
    """A factory of random open_clip models, far from their initialisation; seeded."""

    def build(pool="tok", seed=0, quick_gelu=False, **vision):
        torch.manual_seed(seed)
        config = {
            "image_size": 32,
            "patch_size": 8,
            "width": 32,
            "layers": 2,
            "head_width": 8,
            "pool_type": pool,
            "final_ln_after_pool": pool == "avg",
            **vision,
        }
        text = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
        model = open_clip.CLIP(24, config, text, quick_gelu=quick_gelu).eval()
        with torch.no_grad():
            for parameter in model.visual.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        return model

    return build
