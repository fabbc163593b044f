"""Tiny random SigLIPs of transformers and the same weights in open_clip's form."""

import open_clip
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import (
    PreTrainedTokenizerFast,
    Siglip2Config,
    Siglip2Model,
    SiglipConfig,
    SiglipModel,
)

from tests.regionlm.tiny_timm import tiny_timm

WIDTH, HIDDEN, LAYERS, HEADS, CONTEXT = 32, 70, 2, 4, 10
WORDS = ["<pad>", "</s>", "<unk>", "a", "cat", "dog", "and", "red"]
_SHARED = {"hidden_size": WIDTH, "intermediate_size": HIDDEN, "num_hidden_layers": LAYERS,
           "num_attention_heads": HEADS}  # fmt: skip
_TEXT = {"vocab_size": len(WORDS), "max_position_embeddings": CONTEXT, "projection_size": WIDTH,
         "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}  # fmt: skip
_BLOCK = {"layer_norm1": "norm1", "layer_norm2": "norm2", "self_attn.out_proj": "attn.proj",
          "mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}  # fmt: skip
_TEXT_BLOCK = {"layer_norm1": "ln_1", "layer_norm2": "ln_2", "self_attn.out_proj": "attn.out_proj",
               "mlp.fc1": "mlp.c_fc", "mlp.fc2": "mlp.c_proj"}  # fmt: skip
_VISION = {"embeddings.patch_embedding": "patch_embed.proj", "post_layernorm": "norm",
           "head.attention.out_proj": "attn_pool.proj", "head.layernorm": "attn_pool.norm",
           "head.mlp.fc1": "attn_pool.mlp.fc1", "head.mlp.fc2": "attn_pool.mlp.fc2"}  # fmt: skip


def tiny_siglip(naflex: bool = False, **vision):
    """A random ``SiglipModel`` for 4 x 4 patches of 8 pixels, or a ``Siglip2Model``."""
    sizes = {"patch_size": 8, **({"num_patches": 16} if naflex else {"image_size": 32})}
    kind, config = (Siglip2Model, Siglip2Config) if naflex else (SiglipModel, SiglipConfig)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        text = {**_SHARED, **_TEXT}
        towers = {"text_config": text, "vision_config": {**_SHARED, **sizes, **vision}}
        model = kind(config(**towers)).eval()
        for parameter in model.parameters():
            parameter.data += 0.2 * torch.randn_like(parameter)
        model.logit_scale.data.fill_(2.5)
    return model


def tokenizer():
    """Words, and an end; without padding."""
    words = Tokenizer(models.WordLevel({w: i for i, w in enumerate(WORDS)}, "<unk>"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )


def as_open_clip(siglip):
    """The open_clip model, with timm's image tower, that has a ``SiglipModel``'s weights."""
    state = siglip.state_dict()
    model = tiny_timm("map", "none", name="regionlm_tiny_siglip", act_layer="gelu_tanh",
                      mlp_ratio=HIDDEN / WIDTH)  # fmt: skip
    vision = {f"vision_model.{a}": b for a, b in _VISION.items()}
    found = {"pos_embed": state["vision_model.embeddings.position_embedding.weight"][None]}
    found["attn_pool.latent"] = state["vision_model.head.probe"]
    for part in ("weight", "bias"):
        found |= {f"{b}.{part}": state[f"{a}.{part}"] for a, b in vision.items()}
        packed = state[f"vision_model.head.attention.in_proj_{part}"]
        found[f"attn_pool.q.{part}"], found[f"attn_pool.kv.{part}"] = packed.split(
            [WIDTH, 2 * WIDTH]
        )
        for i in range(LAYERS):
            theirs, ours = f"vision_model.encoder.layers.{i}", f"blocks.{i}"
            found |= {
                f"{ours}.{b}.{part}": state[f"{theirs}.{a}.{part}"] for a, b in _BLOCK.items()
            }
            found[f"{ours}.attn.qkv.{part}"] = _qkv(state, theirs, part)
    model.visual.trunk.load_state_dict(found)
    model.text = _text(state)
    model.logit_scale.data.copy_(state["logit_scale"][0])
    return model.eval()


def _text(state):
    from open_clip.transformer import TextTransformer

    eps = {"eps": 1e-6}
    tower = TextTransformer(
        context_length=CONTEXT, vocab_size=len(WORDS), width=WIDTH, heads=HEADS, layers=LAYERS,
        mlp_ratio=(HIDDEN + 0.5) / WIDTH, output_dim=WIDTH, no_causal_mask=True, proj_bias=True,
        pool_type="last", norm_layer=lambda width: open_clip.transformer.LayerNorm(width, **eps),
        act_layer=lambda: torch.nn.GELU(approximate="tanh"),
    )  # fmt: skip
    found = {
        "token_embedding.weight": state["text_model.embeddings.token_embedding.weight"],
        "positional_embedding": state["text_model.embeddings.position_embedding.weight"],
    }
    for part in ("weight", "bias"):
        found[f"ln_final.{part}"] = state[f"text_model.final_layer_norm.{part}"]
        found[f"text_projection.{part}"] = state[f"text_model.head.{part}"]
        for i in range(LAYERS):
            theirs, ours = f"text_model.encoder.layers.{i}", f"transformer.resblocks.{i}"
            found |= {
                f"{ours}.{b}.{part}": state[f"{theirs}.{a}.{part}"] for a, b in _TEXT_BLOCK.items()
            }
            found[f"{ours}.attn.in_proj_{part}"] = _qkv(state, theirs, part)
    tower.load_state_dict(found)
    return tower


def _qkv(state, layer, part):
    return torch.cat([state[f"{layer}.self_attn.{one}_proj.{part}"] for one in "qkv"])
