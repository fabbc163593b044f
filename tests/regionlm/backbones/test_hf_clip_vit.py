"""transformers' CLIP tower as a backbone, against transformers and against open_clip."""

import open_clip
import pytest
import torch
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel

from regionlm import InputError, MaskInversion, ModelError
from regionlm.backbones.clip_vit import OPENAI_MEAN, OPENAI_STD, ClipViT
from regionlm.backbones.hf_clip_vit import HfClipViT

SIZES = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}


def tower(activation: str = "quick_gelu") -> CLIPVisionModel:
    config = CLIPVisionConfig(
        num_attention_heads=4, image_size=32, patch_size=8, hidden_act=activation,
        initializer_range=0.3, **SIZES,
    )  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return CLIPVisionModel(config).eval()


def backbone(model: CLIPVisionModel) -> HfClipViT:
    return HfClipViT(model, mean=OPENAI_MEAN, std=OPENAI_STD)


def as_open_clip(model: CLIPVisionModel) -> ClipViT:
    """The same weights in an open_clip model whose projection is the identity."""
    clip = open_clip.CLIP(
        32,
        {"image_size": 32, "layers": 3, "width": 32, "head_width": 8, "patch_size": 8,
         "mlp_ratio": 2.0},
        {"context_length": 4, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1},
        quick_gelu=True,
    ).eval()  # fmt: skip
    parts = getattr(model, "vision_model", model)
    visual, state = clip.visual, parts.state_dict()
    with torch.no_grad():
        visual.proj.copy_(torch.eye(32))
        visual.conv1.weight.copy_(state["embeddings.patch_embedding.weight"])
        visual.class_embedding.copy_(state["embeddings.class_embedding"])
        visual.positional_embedding.copy_(state["embeddings.position_embedding.weight"])
        visual.ln_pre.load_state_dict(parts.pre_layrnorm.state_dict())
        visual.ln_post.load_state_dict(parts.post_layernorm.state_dict())
        pairs = zip(visual.transformer.resblocks, parts.encoder.layers, strict=True)
        for block, layer in pairs:
            attention = layer.self_attn
            ours = (attention.q_proj, attention.k_proj, attention.v_proj)
            block.attn.in_proj_weight.copy_(torch.cat([part.weight for part in ours]))
            block.attn.in_proj_bias.copy_(torch.cat([part.bias for part in ours]))
            block.attn.out_proj.load_state_dict(attention.out_proj.state_dict())
            block.ln_1.load_state_dict(layer.layer_norm1.state_dict())
            block.ln_2.load_state_dict(layer.layer_norm2.state_dict())
            block.mlp.c_fc.load_state_dict(layer.mlp.fc1.state_dict())
            block.mlp.c_proj.load_state_dict(layer.mlp.fc2.state_dict())
    return ClipViT(clip)


@pytest.mark.parametrize("activation", ["quick_gelu", "gelu", "gelu_pytorch_tanh"])
def test_embeds_as_the_tower_pools(activation):
    model = tower(activation)
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(pixels).pooler_output
    found = backbone(model)
    torch.testing.assert_close(found.embed_images(pixels), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(found.encode(pixels).embeddings, expected, atol=1e-5, rtol=1e-5)
    assert found.blocks()[-1].out_weight is found.head().block.out_weight


def test_inverts_as_the_same_weights_in_open_clip_do():
    model = tower()
    pixels = torch.randn(3, 32, 32, dtype=torch.float64)
    masks = torch.rand(2, 32, 32) > 0.5
    options = {"steps": 5, "alpha": 1.0, "size": 32}
    ours = MaskInversion(backbone(model.double()), **options)(pixels, masks)
    clip = as_open_clip(model)
    clip.model.double()
    theirs = MaskInversion(clip, **options)(pixels, masks)
    torch.testing.assert_close(ours.embeddings, theirs.embeddings, atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(ours.relevance, theirs.relevance, atol=1e-9, rtol=1e-9)


def test_changed_weights_are_seen():
    model = tower()
    found = backbone(model)
    pixels = torch.randn(1, 3, 32, 32)
    before = found.encode(pixels).embeddings
    with torch.no_grad():
        getattr(model, "vision_model", model).encoder.layers[-1].self_attn.v_proj.weight.mul_(2)
        expected = model(pixels).pooler_output
    torch.testing.assert_close(found.encode(pixels).embeddings, expected, atol=1e-5, rtol=1e-5)
    assert (before - expected).abs().max() > 1e-2


def test_what_it_does_not_take():
    with pytest.raises(InputError, match="takes 32 x 32 pixels only, found 48 x 32"):
        backbone(tower()).encode(torch.randn(1, 3, 48, 32))
    with pytest.raises(ModelError, match="expected GELU, QuickGELU or SiLU, found ReLU"):
        backbone(tower("relu"))
    siglip = SiglipVisionModel(
        SiglipVisionConfig(num_attention_heads=4, image_size=32, patch_size=8, **SIZES)
    )
    with pytest.raises(ModelError, match="expected CLIP's image tower"):
        backbone(siglip)
