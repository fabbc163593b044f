"""Tiny random open_clip models whose image tower is one of timm's, known to timm by name."""

from functools import partial

import open_clip
import torch
from timm.models import register_model
from timm.models.eva import Eva
from timm.models.vision_transformer import VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem, HybridEmbed
from timm.models.vitamin import GeGluMlp

TEXT = {"context_length": 8, "vocab_size": 49408, "width": 16, "heads": 2, "layers": 1}
_SIZES = {"img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 2, "num_heads": 4}
#: Of the blocks of EVA-02, and what Perception Encoders have.
EVA02 = {"swiglu_mlp": True, "scale_mlp": True, "scale_attn_inner": True, "qkv_fused": False,
         "use_rot_pos_emb": True, "ref_feat_shape": (2, 2)}  # fmt: skip
PE = {"attn_type": "rope", "use_pre_transformer_norm": True, "use_rot_pos_emb": True,
      "ref_feat_shape": (4, 4), "rope_grid_offset": 1.0, "rope_grid_indexing": "xy"}  # fmt: skip
#: Patches of 8 pixels as MobileCLIP-B embeds them, and the blocks behind them of ViTamin.
_STEM = {"channels": (8, 16, 32), "stride": (2, 2, 2), "kernel_size": (2, 2, 2), "padding": 0}
VITAMIN = {"name": "regionlm_tiny_hybrid", "mlp_layer": GeGluMlp, "class_token": False,
           "pos_embed": "none", "pool": "avg", "fc_norm": True}  # fmt: skip
#: Options that matter here; timm passes more, about published weights.
_OURS = ("num_classes", "global_pool", "class_token", "embed_layer", "patch_size")
_chosen: dict = {}


@register_model
def regionlm_tiny_vit(pretrained=False, **options):
    """A plain ViT with a class token, or as ``tiny_timm`` chose."""
    own = {key: options[key] for key in _OURS if key in options}
    model = VisionTransformer(**{**_SIZES, **_chosen, **own})
    model.default_cfg = {}
    return model


@register_model
def regionlm_tiny_eva(pretrained=False, **options):
    """A ViT of timm's ``Eva``."""
    own = {key: options[key] for key in _OURS if key in options}
    model = Eva(**{**_SIZES, **_chosen, **own})
    model.default_cfg = {}
    return model


@register_model
def regionlm_tiny_siglip(pretrained=False, **options):
    """As SigLIP's image towers are."""
    return regionlm_tiny_vit(**{"class_token": False, **options})


@register_model
def regionlm_tiny_hybrid(pretrained=False, **options):
    """A ViT whose patches come from a stem of three convolutions."""
    embed = partial(HybridEmbed, backbone=ConvStem(**_STEM), proj=False)
    return regionlm_tiny_vit(**{"embed_layer": embed, "patch_size": 1, **options})


def timm_config(
    pool: str = "token", proj: str | None = None, name: str = "regionlm_tiny_vit"
) -> dict:
    """open_clip's ``model_cfg`` of such a model."""
    vision = {"timm_model_name": name, "timm_pool": pool, "timm_proj": proj, "image_size": 32}
    dim = 32 if proj == "none" else 24
    return {"embed_dim": dim, "custom_text": True, "vision_cfg": vision, "text_cfg": dict(TEXT)}


def tiny_timm(
    pool: str = "token",
    proj: str | None = None,
    seed: int = 0,
    name: str = "regionlm_tiny_vit",
    **trunk,
):
    """A random model, far from its initialisation; ``trunk``: options of timm's class."""
    torch.manual_seed(seed)
    config = timm_config(pool, proj, name)
    config.pop("custom_text")
    _chosen.update(trunk)
    try:
        model = open_clip.CustomTextCLIP(**config).eval()
    finally:
        _chosen.clear()
    with torch.no_grad():
        for parameter in model.visual.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model
