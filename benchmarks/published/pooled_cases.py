"""Attention-pooled models for both sides, from seeds: a SigLIP, a CoCa and a tiny one of each.

Like ``cases`` this runs in two environments, with old packages and with ours.
"""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np

from .cases import build_model, image_array, unit_noise

TEXT = {"context_length": 8, "vocab_size": 16, "width": 16, "heads": 1, "layers": 1}
_TIMM = {"timm_pool": "map", "timm_proj": "none"}
_COCA = {"attentional_pool": True, "attn_pooler_heads": 8, "attn_pooler_queries": 256}
#: Of each, the width of the joint space and the visual part of open_clip's configuration.
POOLED: dict[str, tuple[int, dict[str, Any]]] = {
    "ViT-B-16-SigLIP": (
        768,
        {"image_size": 224, "timm_model_name": "vit_base_patch16_siglip_224", **_TIMM},
    ),
    "coca_ViT-B-32": (
        512,
        {"image_size": 224, "layers": 12, "width": 768, "patch_size": 32, **_COCA},
    ),
    "tiny-siglip": (64, {"image_size": 64, "timm_model_name": "published_tiny_siglip", **_TIMM}),
    "tiny-coca": (
        32,
        {"image_size": 64, "layers": 3, "width": 64, "patch_size": 8, "head_width": 16, **_COCA},
    ),
}
LAYERS = {"ViT-B-16-SigLIP": 12, "coca_ViT-B-32": 12, "tiny-siglip": 3, "tiny-coca": 3}


def build_any(name: str, dtype: str = "float32") -> Any:
    """A model of ``cases``, or one of these."""
    return build_pooled(name, dtype) if name in POOLED else build_model(name, dtype)


def build_pooled(name: str, dtype: str = "float32") -> Any:
    """An ``open_clip`` model of this configuration with seeded weights, in eval mode."""
    import torch
    from open_clip.model import CLIP, CustomTextCLIP

    if name == "tiny-siglip":
        _register_tiny()
    dim, vision = POOLED[name]
    kind = CustomTextCLIP if "timm_model_name" in vision else CLIP
    model = kind(dim, dict(vision), dict(TEXT)).eval()
    with torch.no_grad():
        for key, parameter in model.visual.named_parameters():
            parameter.copy_(torch.from_numpy(_weight(key, tuple(parameter.shape))))
    return model.to(getattr(torch, dtype))


def seeded_vectors(name: str, count: int, seed: int = 3) -> np.ndarray:
    """``count`` unit vectors of the joint space, float64 ``[count, d]``."""
    dim = POOLED[name][0]
    found = unit_noise(seed, count * dim).reshape(count, dim).astype(np.float64)
    return found / np.linalg.norm(found, axis=1, keepdims=True)


def pixel_array(size: int) -> np.ndarray:
    """The picture as input, float64 ``[1, 3, size, size]``, squashed and normalised by a half."""
    from PIL import Image

    squashed = Image.fromarray(image_array()).resize((size, size), Image.Resampling.BICUBIC)
    return np.array(squashed).transpose(2, 0, 1)[None].astype(np.float64) / 127.5 - 1


def _register_tiny() -> None:
    """Make timm know the tiny model, once."""
    from timm.models import is_model, register_model
    from timm.models.vision_transformer import VisionTransformer

    def published_tiny_siglip(pretrained: bool = False, **options: Any) -> Any:
        sizes = {"img_size": 64, "patch_size": 8, "embed_dim": 64, "depth": 3, "num_heads": 4}
        return VisionTransformer(
            class_token=False, global_pool="map", num_classes=options.get("num_classes", 0), **sizes
        )

    if not is_model("published_tiny_siglip"):
        register_model(published_tiny_siglip)


def _weight(name: str, shape: tuple[int, ...]) -> np.ndarray:
    """A parameter's values, of the scales that ``cases.seeded_weight`` explains."""
    noise = unit_noise(zlib.crc32(name.encode()), int(np.prod(shape))).reshape(shape)
    owner, _, kind = name.rpartition(".")
    last = owner.rpartition(".")[2]
    if (last.startswith(("norm", "ln_"))) and kind == "weight":
        return np.float32(1) + np.float32(0.1) * noise
    if kind == "bias" or kind == "in_proj_bias":
        return np.float32(0.05) * noise
    if kind in ("pos_embed", "latent", "query") or kind.endswith("embedding"):
        return noise * np.float32(shape[-1] ** -0.5)
    variance = 1 / 2 if kind == "in_proj_weight" or last in ("qkv", "kv", "q") else 1 / 3
    return noise * np.float32((variance / np.prod(shape[1:])) ** 0.5)
