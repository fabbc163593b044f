"""All our knowledge of open_clip beyond its documented calls, but for the insides of its blocks.

It consists of the names of files, of keys in configs and checkpoints, and of parts of image towers.
tests/regionlm/backbones/test_open_clip_insides checks all of it against open_clip itself.
"""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from regionlm.backbones.blocks import Activation, BlockWeights, LayerNormWeights, read_layer_norm
from regionlm.backbones.no_memory import without_memory
from regionlm.backbones.open_clip_blocks import read_block, read_pooler
from regionlm.backbones.positions import Interpolation
from regionlm.backbones.vision import Head, Pooling
from regionlm.errors import TAKE_ANOTHER, ModelError

#: Files of a model's folder: its config, and its weights under the first of these names.
CONFIG_FILE = "open_clip_config.json"
WEIGHT_FILES = (
    "open_clip_model.safetensors",
    "open_clip_pytorch_model.safetensors",
    "open_clip_pytorch_model.bin",
    "model.safetensors",
    "pytorch_model.bin",
)
#: Weights in a hub repository if the tag names no file, and the cache of files from other URLs.
HUB_FILES = ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")
URL_CACHE = Path("~/.cache/clip")
#: Tokens of open_clip's own tokenizer, and the default context of a text tower.
OWN_TOKENS, DEFAULT_CONTEXT = 49408, 77
#: Keys of a ``text_cfg``: the tokenizer's name, and its options.
TOKENIZER_NAME = "hf_tokenizer_name"
TOKENIZER_OPTIONS = ("tokenizer_kwargs", "tokenizer_mode")
#: Numbers in OpenAI's archives that are not weights.
OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
#: Of its own ViTs.
_PARTS = ("conv1", "class_embedding", "positional_embedding", "ln_pre", "transformer", "ln_post")


class ImageTower:
    """A `Tower`: the parts of an open_clip ``VisionTransformer``, with its current tensors.

    Args:
        visual: a model's ``visual``.
        name: the model's name, for messages.

    Raises:
        ModelError: not a plain ViT with a pooling that is supported.
    """

    prefix = 1
    interpolation: Interpolation = "bicubic"

    def __init__(self, visual: nn.Module | None, name: str) -> None:
        self.pooling: Pooling = _read_pooling(visual, name)
        self.module: Any = visual
        self._name = name

    @property
    def patch_weight(self) -> Tensor:
        """Convolution of the patches, ``[D, 3, P, P]``."""
        return self.module.conv1.weight

    @property
    def width(self) -> int:
        """Width D of the tokens."""
        return len(self.patch_weight)

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return tuple(self.module.conv1.kernel_size)

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels of the model's input."""
        return tuple(self.module.image_size)

    @property
    def grid(self) -> tuple[int, int]:
        """Patches per column and row of such an image."""
        return tuple(self.module.grid_size)

    @property
    def dim(self) -> int:
        """Width d of the joint space."""
        return int(self.module.proj.shape[1])

    def embed_patches(self, pixels: Tensor) -> Tensor:
        """Patches ``[B, gh * gw, D]`` of pixels."""
        patches = F.conv2d(pixels, self.patch_weight, stride=self.patch_size)
        return patches.flatten(2).transpose(1, 2)

    def prefix_tokens(self) -> Tensor:
        """The class token, ``[1, D]``."""
        return self.module.class_embedding[None]

    def positions(self) -> Tensor:
        """``[1 + gh * gw, D]``, [CLS] first."""
        return self.module.positional_embedding

    @property
    def preprocess(self) -> dict[str, Any]:
        """The model's preprocessing (mean and std), if it has any."""
        return getattr(self.module, "preprocess_cfg", None) or {}

    def norm_before(self) -> LayerNormWeights | None:
        """The norm before the blocks; None if the model has none."""
        norm = self.module.ln_pre
        return None if isinstance(norm, nn.Identity) else self._norm(norm, "ln_pre")

    def blocks(self) -> list[BlockWeights]:
        """The transformer blocks."""
        return [self._block(number) for number in range(len(_blocks(self.module)))]

    def head(self) -> Head:
        """The last block and what follows it."""
        block: BlockWeights
        if self.pooling == "attention":
            block = read_pooler(self.module.attn_pool, f"{self._name}: attn_pool")
        else:
            block = self._block(len(_blocks(self.module)) - 1)
        norm = self._norm(self.module.ln_post, "ln_post")
        return Head(block, norm, self.module.proj, self.pooling, self.prefix)

    def _block(self, number: int) -> BlockWeights:
        return read_block(_blocks(self.module)[number], f"{self._name}: block {number}")

    def _norm(self, module: nn.Module, part: str) -> LayerNormWeights:
        return read_layer_norm(module, f"{self._name}: {part}")


class _Elementwise(nn.Module):
    def __init__(self, activation: Activation) -> None:
        super().__init__()
        self.activation = activation

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(x)


def set_activation(visual: nn.Module, kind: str) -> None:
    """Set the ``Activation`` of all blocks of an image tower, which is changed."""
    for block in _blocks(visual):
        block.mlp.gelu = _Elementwise(Activation(kind))


def _blocks(visual: Any) -> Any:
    return visual.transformer.resblocks


def is_own_vit(visual: nn.Module | None) -> bool:
    """Whether an image tower is a ViT of open_clip's own."""
    return visual is not None and all(hasattr(visual, part) for part in _PARTS)


def _read_pooling(visual: nn.Module | None, name: str) -> Pooling:
    """How the tower pools; ModelError if it isn't a supported plain ViT."""
    wanted = "expected an open_clip ViT pooled at [CLS], over its patches or by attention"
    if not is_own_vit(visual):
        raise ModelError(f"{name}: {wanted}, found image tower {type(visual).__name__}")
    if getattr(visual, "proj", None) is None:
        raise ModelError(f"{name}: {wanted} with a projection, found none (visual.proj is None)")
    pool = getattr(visual, "pool_type", "tok")
    if getattr(visual, "attn_pool", None) is not None:
        if getattr(visual, "attn_pool_contrastive", None) is None and pool == "tok":
            return "attention"
        kind = getattr(visual, "attn_pool_type", "") or pool
        raise ModelError(f"{name}: {wanted} with one pooler, found pooling of the kind {kind!r}")
    if pool == "tok":
        return "cls"  # for one token, the order of norm and pool does not matter
    if pool == "avg" and getattr(visual, "final_ln_after_pool", False):
        return "mean"
    detail = " with the layer norm before the pool" if pool == "avg" else ""
    raise ModelError(f"{name}: {wanted}, found pool_type {pool!r}{detail}")


def refuse_unreadable(config: dict[str, Any], name: str, offline: bool) -> None:
    """Raise ModelError if a ``model_cfg`` is not supported, before anything is downloaded."""
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    if isinstance(vision.get("layers"), list):
        raise ModelError(f"{name}: expected a plain CLIP ViT, found a ResNet{TAKE_ANOTHER}")
    if "hf_model_name" in text and offline:
        raise ModelError(
            f"{name}: its text tower {text['hf_model_name']} is described on the hub only;"
            " load it without offline"
        )


def empty_model(config: dict[str, Any], name: str) -> nn.Module:
    """A model with the image tower of a ``model_cfg``, without memory for its weights, and any text
    tower: enough to see whether the image tower can be read.

    Raises:
        ModelError: the config isn't valid.
    """
    text = {"context_length": 8, "vocab_size": 8, "width": 8, "heads": 1, "layers": 1}
    kept: dict[str, Any] = {"text_cfg": text}
    kept |= {key: config[key] for key in ("embed_dim", "vision_cfg", "quick_gelu") if key in config}
    with without_memory():
        return build_model(kept, name)


def outline(config: dict[str, Any], name: str) -> tuple[nn.Module, int | None]:
    """`empty_model`, and the number of weights of the whole model of a ``model_cfg``; None if its
    text tower is described on the hub only. Raises as there."""
    if "hf_model_name" in config.get("text_cfg", {}):
        return empty_model(config, name), None
    with without_memory():
        model = build_model(config, name)
    return model, sum(weight.numel() for weight in model.parameters())


def build_model(config: dict[str, Any], name: str, quick_gelu: bool | None = None) -> nn.Module:
    """Build an open_clip model from its ``model_cfg``, without weights; keeps the RNG state.

    Raises:
        ModelError: the config isn't valid.
    """
    import open_clip

    config = with_activation(deepcopy(config), quick_gelu)
    vision, text = config.get("vision_cfg", {}), config.get("text_cfg", {})
    if "timm_model_name" in vision:
        vision["timm_model_pretrained"] = False
    if "hf_model_name" in text:
        text["hf_model_pretrained"] = False
    custom = config.pop("custom_text", False) or "hf_model_name" in text
    kind = open_clip.CustomTextCLIP if custom else open_clip.CLIP
    if custom and "multimodal_cfg" in config:
        kind = open_clip.CoCa
    try:
        with torch.random.fork_rng(devices=[]):
            return kind(**config)
    except (TypeError, ValueError, AssertionError, RuntimeError, AttributeError) as error:
        raise ModelError(f"{name}: open_clip can't build this config ({error})") from error


def with_activation(config: dict[str, Any], quick_gelu: bool | None) -> dict[str, Any]:
    """The ``model_cfg`` with the GELU that the weights need; None leaves it as it is."""
    return config if quick_gelu is None else {**config, "quick_gelu": quick_gelu}


def is_quick_gelu(classes: str) -> bool:
    """Whether a TorchScript archive's model computes QuickGELU.

    All of OpenAI's do; an archive of an open_clip model names the class if it does.

    Args:
        classes: from `regionlm.backbones.torchscript.torchscript_classes`.
    """
    return "QuickGELU" in classes or "open_clip" not in classes


def in_layout_of(expected: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A checkpoint's tensors with the model's names, and its rank of the logit scale.

    Older checkpoints have text weights at the top level instead of under ``text.``, position ids
    that are no longer stored, and a logit scale of another rank. OpenAI's also hold three numbers,
    and archives of a scripted model the text tower's causal mask.
    """

    def renamed(key: str) -> str:
        return f"text.{key}" if key not in expected and f"text.{key}" in expected else key

    state = {renamed(key): value for key, value in state.items()}
    endings = ("embeddings.position_ids", "attn_mask")
    stale = {k for k in state if k.endswith(endings) or k in OPENAI_EXTRAS} - set(expected)
    state = {key: value for key, value in state.items() if key not in stale}
    scale = state.get("logit_scale")
    if scale is not None and "logit_scale" in expected and scale.numel() == 1:
        state["logit_scale"] = scale.reshape(expected["logit_scale"].shape)
    return state


def text_tokens(model: nn.Module) -> int | None:
    """Rows of a model's token embedding; None if unknown."""
    text = getattr(model, "text", model)
    table = getattr(text, "token_embedding", None)
    if table is None and hasattr(text, "transformer"):  # a transformers model
        table = getattr(text.transformer, "get_input_embeddings", lambda: None)()
    return getattr(table, "num_embeddings", None)


def get_tokenizer(source: str, **options: bool) -> Any:
    """``open_clip.get_tokenizer``, also for releases of open_clip older than transformers 5.

    Up to 3.2 they call ``batch_encode_plus``, which transformers 5 no longer has.
    """
    import open_clip

    tokenizer = open_clip.get_tokenizer(source, **options)
    inner = getattr(tokenizer, "tokenizer", None)
    if inner is not None and not hasattr(inner, "batch_encode_plus"):
        inner.batch_encode_plus = inner.__call__
    return tokenizer


def text_cleaning() -> Callable[[str], str]:
    """The function with which open_clip cleans texts for tokenizers by name, by default."""
    from open_clip.tokenizer import get_clean_fn

    return get_clean_fn("whitespace")
