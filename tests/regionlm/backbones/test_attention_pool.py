"""Attention-pooled models, SigLIP's and CoCa's, against open_clip's own forward."""

import json

import open_clip
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file

from regionlm.backbones import ClipViT, load_backbone
from regionlm.backbones.open_clip_insides import build_model
from regionlm.backbones.saving import save_backbone
from tests.regionlm.backbones.test_open_clip_insides import COCA, CONFIG
from tests.regionlm.tiny_timm import timm_config, tiny_timm

SIGLIP = {
    **timm_config("map", "none", "regionlm_tiny_siglip"),
    "init_logit_bias": -10,
    "text_cfg": {"context_length": 8, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 1,
                 "no_causal_mask": True, "proj_bias": True, "pool_type": "last"},
}  # fmt: skip
CONFIGS = {"SigLIP": SIGLIP, "CoCa": {**CONFIG, **COCA}}


def random_model(config, seed=0):
    torch.manual_seed(seed)
    model = build_model(config, "tiny").eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


@pytest.fixture(params=CONFIGS)
def config(request):
    return CONFIGS[request.param]


def test_embeddings_are_open_clips_own_but_for_their_length(config):
    """CoCa's ``encode_image`` and ``encode_text`` normalise unless told not to; ours never do."""
    model = random_model(config)
    backbone = ClipViT(model, tokenizer=lambda texts: torch.arange(len(texts) * 8).view(-1, 8) % 30)
    assert backbone.pooling == "attention" and backbone.dim == config["embed_dim"]
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        wanted = model.encode_image(pixels)
        texts = model.encode_text(torch.arange(16).view(2, 8), normalize=False)
    for found in (backbone.embed_images(pixels), backbone.encode(pixels).embeddings):
        assert (found.norm(dim=1) - 1).abs().min() > 1e-3
        torch.testing.assert_close(
            F.normalize(found, dim=1), F.normalize(wanted, dim=1), atol=1e-5, rtol=1e-5
        )
    torch.testing.assert_close(backbone.embed_texts(["a", "b"]), texts, atol=1e-5, rtol=1e-5)


def test_folders_are_written_and_read(config, tmp_path):
    config = {**config, "text_cfg": {**config["text_cfg"], "vocab_size": 49408}}
    model = random_model(config)
    own = open_clip.SimpleTokenizer(context_length=8)
    backbone = ClipViT(model, tokenizer=own, config=config, mean=(0.5,) * 3, std=(0.5,) * 3)
    save_backbone(backbone, tmp_path)
    again = load_backbone(str(tmp_path), device="cpu")
    pixels = torch.randn(1, 3, 24, 40)
    assert torch.equal(backbone.embed_images(pixels), again.embed_images(pixels))
    assert torch.equal(backbone.embed_texts(["a dog"]), again.embed_texts(["a dog"]))
    theirs = open_clip.create_model(f"local-dir:{tmp_path}")
    assert theirs.state_dict().keys() == model.state_dict().keys()


def test_siglips_own_preprocessing(tmp_path):
    """Squashed and normalised with a half, as the folder says: open_clip's transform, in bits."""
    (tmp_path / "open_clip_config.json").write_text(
        json.dumps(
            {
                "model_cfg": SIGLIP,
                "preprocess_cfg": {
                    "mean": [0.5] * 3,
                    "std": [0.5] * 3,
                    "interpolation": "bicubic",
                    "resize_mode": "squash",
                },
            }
        )
    )
    save_file(random_model(SIGLIP).state_dict(), tmp_path / "open_clip_model.safetensors")
    _, transform = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path}")
    noise = torch.randint(0, 256, (40, 56, 3), dtype=torch.uint8).numpy()
    image = Image.fromarray(noise)
    found = load_backbone(str(tmp_path), device="cpu").preprocess(image)
    torch.testing.assert_close(found, transform(image), atol=1e-6, rtol=0)


def test_other_queries_than_the_first_have_no_part(tiny_clip):
    """CoCa's contrastive loss saw the first alone; the others are the caption decoder's."""
    model = tiny_clip(attentional_pool=True, attn_pooler_queries=3, attn_pooler_heads=4)
    pixels = torch.randn(1, 3, 32, 32)
    before = ClipViT(model).embed_images(pixels)
    with torch.no_grad():
        model.visual.attn_pool.query[1:] = torch.randn_like(model.visual.attn_pool.query[1:])
    assert torch.equal(ClipViT(model).embed_images(pixels), before)
    with torch.no_grad():
        model.visual.attn_pool.query[0] += 1
    assert not torch.equal(ClipViT(model).embed_images(pixels), before)


def test_nothing_is_kept_of_a_callers_inference_mode():
    """The query is computed from the model's weights; it must be an ordinary tensor."""
    with torch.inference_mode():
        head = ClipViT(tiny_timm("map", class_token=False)).head()
    assert not head.block.query.is_inference() and not head.block.query.requires_grad
