"""All our knowledge of the blocks of transformers' CLIP and SigLIP image towers, which are alike.

tests/regionlm/backbones/test_hf_clip_vit and test_hf_siglip check it against transformers itself.
"""

from __future__ import annotations

from typing import Any

from regionlm.backbones.blocks import BlockWeights, find_activation, read_layer_norm


def read_hf_block(layer: Any, where: str) -> BlockWeights:
    """Read one layer of such a tower; ``where`` names it in messages.

    Raises:
        ModelError: its activation is not known.
    """
    attention = layer.self_attn
    parts = [attention.q_proj, attention.k_proj, attention.v_proj]
    return BlockWeights(
        norm_1=read_layer_norm(layer.layer_norm1, f"{where}.layer_norm1"),
        qkv_weight=[part.weight for part in parts],
        qkv_bias=[part.bias for part in parts],
        norm_2=read_layer_norm(layer.layer_norm2, f"{where}.layer_norm2"),
        **hf_projections(attention, layer.mlp, where),
    )


def hf_projections(attention: Any, mlp: Any, where: str) -> dict[str, Any]:
    """What blocks and attention pools of such a tower share: arguments of ``BlockWeights``.

    These are all but the norms and what makes queries, keys and values.

    Raises:
        ModelError: the activation is not known.
    """
    return {
        "out_weight": attention.out_proj.weight,
        "out_bias": attention.out_proj.bias,
        "heads": attention.num_heads,
        "scale_attention": None,
        "fc_weight": mlp.fc1.weight,
        "fc_bias": mlp.fc1.bias,
        "activation": find_activation(mlp.activation_fn, f"{where}.mlp.activation_fn"),
        "proj_weight": mlp.fc2.weight,
        "proj_bias": mlp.fc2.bias,
        "scale_mlp": None,
    }
