"""What we know of timm's image towers, against timm and open_clip themselves."""

from copy import deepcopy

import open_clip
import pytest
import torch
from timm.models.vision_transformer import ResPostBlock
from torch import nn

from regionlm.backbones import ClipViT
from regionlm.errors import ModelError
from tests.regionlm.tiny_timm import EVA02, PE, VITAMIN, tiny_timm

SUPPORTED = [
    {},
    {"proj": "linear"},
    {"reg_tokens": 3},
    {"reg_tokens": 2, "no_embed_class": True, "qkv_bias": False},
    {"pool": "avg", "fc_norm": True},
    {"pool": "avg", "fc_norm": True, "class_token": False},
    {"pool": "avg", "fc_norm": True, "reg_tokens": 2},
    {"init_values": 0.3, "pre_norm": True, "act_layer": "quick_gelu"},
    {"act_layer": "gelu_tanh", "patch_size": (8, 4), "mlp_ratio": 2.5},
    {"qk_norm": True, "scale_attn_norm": True, "scale_mlp_norm": True},
    {"name": "regionlm_tiny_eva", "init_values": 0.5, "qkv_bias": True},
    {"name": "regionlm_tiny_eva", **EVA02},
    {"name": "regionlm_tiny_eva", **PE, "num_reg_tokens": 2},
    {"name": "regionlm_tiny_eva", **PE, "pool": "avg"},
    {"name": "regionlm_tiny_eva", **PE, "pool": "map", "attn_pool_num_heads": 2},
    {"name": "regionlm_tiny_eva", "rope_type": "mixed", "use_rot_pos_emb": True},
    {"pool": "map", "class_token": False, "global_pool": "map", "proj": "linear"},
    {"pool": "map", "class_token": False, "proj": "none"},
    {"pool": "map", "class_token": False, "reg_tokens": 2, "pool_include_prefix": True},
    {"pos_embed": "none"},
    {"name": "regionlm_tiny_hybrid", "no_embed_class": True},
    VITAMIN,
]


@pytest.mark.parametrize("options", SUPPORTED, ids=str)
def test_embeddings_are_open_clips_own(options):
    model = tiny_timm(**options)
    before = deepcopy(model.state_dict())
    backbone = ClipViT(model)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = model.encode_image(pixels)
    for found in (backbone.embed_images(pixels), backbone.encode(pixels).embeddings):
        torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)
    trunk = model.visual.trunk
    assert backbone.head().prefix == trunk.num_prefix_tokens
    pooling = {"avg": "mean", "map": "attention"}.get(options.get("pool"), "cls")
    assert (backbone.pooling, backbone.width) == (pooling, 32)
    assert (backbone.dim, backbone.default_size) == (wanted.shape[1], (32, 32))
    embed = trunk.patch_embed
    ratio = embed.feat_ratio(as_scalar=False) if hasattr(embed, "backbone") else embed.patch_size
    assert backbone.patch_size == tuple(ratio)
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


OTHER_SIZES = [
    {"reg_tokens": 3},
    {"no_embed_class": True},
    {"name": "regionlm_tiny_hybrid", "no_embed_class": True},
    {"pool": "map", "class_token": False},
    {"name": "regionlm_tiny_eva", **EVA02},
    {"name": "regionlm_tiny_eva", **PE},
]


@pytest.mark.parametrize("options", OTHER_SIZES, ids=str)
def test_other_sizes_are_timms_own(options):
    """timm's own resampling of positions, where the model was built to allow other sizes."""
    model = tiny_timm(dynamic_img_size=True, **options)
    pixels = torch.randn(1, 3, 24, 48)
    with torch.no_grad():
        wanted = model.encode_image(pixels)
    torch.testing.assert_close(ClipViT(model).embed_images(pixels), wanted, atol=1e-5, rtol=1e-5)


def test_a_stem_in_training_is_used_as_it_was_trained_and_left_alone():
    model = tiny_timm(name="regionlm_tiny_hybrid")
    pixels = torch.randn(2, 3, 32, 32)
    wanted = ClipViT(model).embed_images(pixels)
    before = deepcopy(model.state_dict())
    model.train()
    found = ClipViT(model).embed_images(pixels)
    assert torch.equal(found, wanted)
    assert all(part.training for part in model.modules())
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, before[name])


def test_pixels_that_no_patch_covers_are_not_counted():
    """SigLIP's SO400M has patches of 14 for images of 384: timm drops the last 6 pixels."""
    model = tiny_timm(img_size=(38, 30))
    backbone = ClipViT(model)
    assert backbone.default_size == (32, 24)
    pixels = torch.randn(1, 3, 38, 30)
    with torch.no_grad():
        wanted = model.encode_image(pixels)
    found = backbone.embed_images(pixels[:, :, :32, :24])
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"block_fn": ResPostBlock}, "ResPostBlock"),
        ({"norm_layer": "rmsnorm"}, "LayerNorm"),
        ({"pool": "avg", "fc_norm": False}, "layer norm after the pool"),
        ({"pool": "avg", "fc_norm": True, "pool_include_prefix": True}, "pooling"),
        ({"pool": "max"}, "pooling 'max'"),
        ({"pool": "map"}, "leaves out the first 1"),
        ({"pool": "map", "class_token": False, "final_norm": False}, "without a norm before it"),
        ({"proj": "mlp"}, "linear projection"),
    ],
)
def test_what_is_not_supported_is_named(options, message):
    with pytest.raises(ModelError, match=message) as caught:
        ClipViT(tiny_timm(**options), name="this one")
    assert "\n" not in str(caught.value) and "this one" in str(caught.value)


def test_other_towers_are_refused():
    vision = {"timm_model_name": "test_convnext", "timm_pool": "", "timm_proj": "linear"}
    text = {"context_length": 8, "width": 16, "heads": 2, "layers": 1}
    with pytest.raises(ModelError, match="ConvNeXt"):
        ClipViT(open_clip.CustomTextCLIP(24, vision, text))
    with pytest.raises(ModelError, match="expected an open_clip ViT"):
        ClipViT(nn.Module())
