"""What we know of the blocks of timm's ViTs, against timm itself."""

from functools import partial

import pytest
import torch
from timm.layers import GluMlp, LayerNorm, RmsNorm, SwiGLU, create_rope_embed
from timm.models.eva import EvaBlock, EvaBlockPostNorm
from timm.models.vision_transformer import Block, ParallelScalingBlock, ResPostBlock
from timm.models.vitamin import GeGluMlp
from torch import nn

from regionlm.backbones.timm_blocks import read_rotary, read_timm_block
from regionlm.errors import ModelError

GRID, PREFIX, WIDTH, HEADS = (2, 3), 2, 32, 4
vit = partial(Block, WIDTH, HEADS)
eva = partial(EvaBlock, WIDTH, HEADS, num_prefix_tokens=PREFIX)
PLAIN = {
    "vit": vit(qkv_bias=True),
    "no biases": vit(proj_bias=False, norm_layer=partial(LayerNorm, bias=False)),
    "q and k norms": vit(qk_norm=True),
    "norms inside": vit(scale_attn_norm=True, scale_mlp_norm=True, init_values=0.3),
    "packed SwiGLU": vit(mlp_layer=partial(GluMlp, gate_last=False), act_layer=nn.SiLU),
    "gate last": vit(mlp_layer=GluMlp, act_layer=nn.GELU),
    "SwiGLU": vit(mlp_layer=SwiGLU, act_layer=nn.SiLU, scale_mlp_norm=True),
    "ViTamin": vit(mlp_layer=GeGluMlp, qkv_bias=True),
    "EVA": eva(),
    "EVA, LayerScale": eva(init_values=0.4, qkv_bias=False, mlp_ratio=2.5),
    "EVA, one scale": eva(init_values=0.4, attn_only_layer_scale=True),
    "EVA-02": eva(swiglu_mlp=True, scale_mlp=True, scale_attn_inner=True, qkv_fused=False),
    "EVA-02, packed": eva(swiglu_mlp=True),
    "EVA, wide heads": eva(attn_type="rope", attn_head_dim=12, qk_norm=True),
    "EVA, no biases": eva(qkv_bias=False, qkv_fused=False),
}
ROPES = {
    "cached": {"feat_shape": (5, 4), "in_pixels": False},
    "of a reference grid, xy": {
        "feat_shape": [2, 3], "in_pixels": False, "ref_feat_shape": (4, 4),
        "grid_offset": 1.0, "grid_indexing": "xy",
    },
    "any grid": {"feat_shape": None, "in_pixels": False},
    "mixed": {"rope_type": "mixed", "depth": 3, "feat_shape": (5, 4)},
    "dinov3": {"rope_type": "dinov3", "feat_shape": (5, 4)},
    "mrope": {"rope_type": "mrope", "rotate_half": True},
}  # fmt: skip


def varied(module: nn.Module) -> nn.Module:
    """With weights far from their initialisation, in float64."""
    for tensor in module.parameters():
        tensor.data += 0.3 * torch.randn_like(tensor)
    return module.double().eval()


def check_same(found, wanted) -> None:
    torch.testing.assert_close(found, wanted, atol=1e-12, rtol=1e-12)


@pytest.mark.parametrize("name", PLAIN)
def test_a_block_computes_the_same(name):
    module, x = varied(PLAIN[name]), torch.randn(2, 8, WIDTH, dtype=torch.float64)
    check_same(read_timm_block(module, "here")(x), module(x))


@pytest.mark.parametrize("name", ROPES)
def test_rotary_positions_are_timms(name):
    half = name == "mrope"
    options = {"rope_type": "cat", **ROPES[name]}
    rope = create_rope_embed(dim=WIDTH, num_heads=HEADS, **options)
    before = {key: value.clone() for key, value in rope.state_dict().items()}
    module = varied(eva(attn_type="rope", rotate_half=half))
    block = read_timm_block(module, "here", read_rotary(rope, 1))
    x = torch.randn(2, PREFIX + 6, WIDTH, dtype=torch.float64)
    angles = torch.cat(block.at(GRID).rotary.table, -1)
    check_same(block.at(GRID)(x), module(x, rope=angles))

    other = create_rope_embed(
        dim=WIDTH, num_heads=HEADS, **{**options, **({} if half else {"feat_shape": GRID})}
    )
    other.load_state_dict(before, strict=False)
    native = other.get_embed() if options.get("feat_shape") else other.get_embed(shape=GRID)
    check_same(angles, native[1] if name == "mixed" else native)
    for key, value in rope.state_dict().items():
        assert torch.equal(value, before[key])


REFUSED = {
    "EvaBlockPostNorm": (EvaBlockPostNorm(WIDTH, HEADS), "here: .* found EvaBlockPostNorm"),
    "ResPostBlock": (ResPostBlock(WIDTH, HEADS), "found ResPostBlock"),
    "ParallelScalingBlock": (ParallelScalingBlock(WIDTH, HEADS), "found ParallelScalingBlock"),
    "differential": (vit(attn_layer="diff"), "here.attn: .* found DiffAttention"),
    "RMSNorm": (vit(norm_layer=RmsNorm), "here.norm1: expected an affine LayerNorm, found RmsNorm"),
    "gate": (eva(gated_attn=True), "here.attn: has a gate on its output"),
    "few keys": (
        eva(attn_type="rope", num_kv_heads=2, qkv_fused=False), "fewer heads of keys than",
    ),
    "activation": (vit(act_layer=nn.ReLU), "here.mlp.act: expected GELU, QuickGELU or SiLU"),
    "not timm's": (nn.Module(), "here: expected timm's Block or EvaBlock, found Module"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_supported_is_named(name):
    module, message = REFUSED[name]
    with pytest.raises(ModelError, match=message) as caught:
        read_timm_block(module, "here")
    assert "\n" not in str(caught.value)
