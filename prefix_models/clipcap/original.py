"""The published ClipCap checkpoints: `coco_weights.pt`, `conceptual_weights.pt` and the like.

They are state dicts of the original training code (github.com/rmokady/CLIP_prefix_caption), with a
GPT-2 under `gpt.` and a mapper under `clip_project.`; captions end with ".".
"""

import logging
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from tokenizers import decoders
from torch import Tensor
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2Tokenizer

from prefix_models.clipcap.config import ClipCapConfig
from prefix_models.clipcap.mappers import PUBLISHED_HEADS
from prefix_models.clipcap.model import ClipCap
from prefix_models.clipcap.original_layout import (
    KINDS,
    count_layers,
    find_kind,
    mapper_names,
    mapper_settings,
)
from prefix_models.errors import PrefixModelError, within
from prefix_models.mapper_files import check_weights
from prefix_models.torch_files import bare_state_dict, foreign_names

log = logging.getLogger(__name__)

GPT2_HUB_ID = "openai-community/gpt2"
# The original training code supports two CLIPs, whose embeddings differ in width.
PUBLISHED_ENCODERS = {512: "ViT-B-32-quickgelu/openai", 640: "RN50x4-quickgelu/openai"}

# Causal masks that older releases of transformers saved; transformers 5 has no such buffers.
_OLD_BUFFER = re.compile(r"gpt\.transformer\.h\.\d+\.attn\.(masked_)?bias")
# Every published GPT-2 has heads of this width; the weights do not tell their number.
_HEAD_WIDTH = 64
# What transformers replaced in decoded text when the checkpoints were published, in order.
_TIDIED = (
    (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"),
    (" 'm", "'m"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re"),
)  # fmt: skip


def load_original(
    path: str | Path,
    tokenizer: Any,
    *,
    encoder: str | None = None,
    normalize_input: bool | None = None,
    heads: int | None = None,
    mapper_heads: int | None = None,
    language_model: GPT2LMHeadModel | None = None,
) -> ClipCap:
    """Load a checkpoint of the original code, with any of its mappers and a GPT-2 of any size.

    All sizes are taken from the weights. Nothing in the file is executed. Old GPT-2 mask buffers
    are dropped (and logged); all other names and shapes must match. The state dict may be wrapped
    as `prefix_models.torch_files.bare_state_dict` says.

    Args:
        path: a local .pt file.
        tokenizer: GPT-2's, see `gpt2_tokenizer`.
        encoder: name of the encoder it was trained on. None means the one of that width in the
            original code: OpenAI's ViT-B/32 (512) or RN50x4 (640), otherwise unknown.
        normalize_input: whether embeddings were scaled to unit norm; None means as published: yes
            for transformer mappers, no for others.
        heads: attention heads of the GPT-2; None means heads of width 64, as in all published ones.
        mapper_heads: attention heads of a transformer mapper; None means 8, as in the original.
        language_model: the GPT-2 that the mapper was trained with, for a file that holds only a
            mapper. The returned model uses this object.

    Raises:
        PrefixModelError: the file is missing, truncated or no such checkpoint, holds more than
            tensors, or does not fit the tokenizer.
    """
    path = Path(path)
    kind, mapper_weights, gpt_weights = _split(_read(path), path, language_model is not None)
    if language_model is None:
        lm = _build_gpt2(gpt_weights, path, heads, tokenizer)
    elif gpt_weights or heads is not None:
        found = "a GPT-2 in the file" if gpt_weights else "heads, which that model knows itself"
        raise PrefixModelError(
            f"{path}: expected a mapper alone for the given language model, found {found}; leave"
            " one of them out"
        )
    else:
        lm = language_model
    settings = mapper_settings(kind, mapper_weights, lm.config.n_embd, str(path))
    if kind == "transformer" and mapper_heads is None:
        mapper_heads = PUBLISHED_HEADS
    if encoder is None:
        encoder = PUBLISHED_ENCODERS.get(settings["embedding_dim"], "")
    if normalize_input is None:
        normalize_input = kind == "transformer"
    with within(path):
        config = ClipCapConfig(
            mapper=kind,
            mapper_heads=mapper_heads,
            normalize_input=normalize_input,
            encoder=encoder,
            stop="period",
            **settings,
        )
        model = ClipCap(lm, tokenizer, config)
    filled = [(model.mapper, mapper_weights)]
    if language_model is None:
        filled.append((model.lm, gpt_weights))
    for module, part in filled:
        check_weights(module, part, str(path))
        module.load_state_dict(part, strict=True)
    return model.eval()


def original_state_dict(model: ClipCap, *, mask_buffers: bool = False) -> dict[str, Tensor]:
    """Return the weights under the original code's names, for use there; tensors are shared.

    Normalisation, prompt and end of text are not part of such a file: the original takes them from
    its command line or has them built in.

    Args:
        model: a GPT-2 with any of the original's mappers.
        mask_buffers: add GPT-2's causal masks, which transformers below 4.30 (the original pins
            4.11) needs to load the file and newer releases refuse.

    Raises:
        PrefixModelError: the original code has no such model.
    """
    if model.lm.config.model_type != "gpt2" or model.config.mapper not in KINDS:
        raise PrefixModelError(
            f"the original code has a GPT-2 with one of the mappers {list(KINDS)}; this is "
            f"{model.lm.config.model_type!r} with {model.config.mapper!r}"
        )
    heads = model.config.mapper_heads or PUBLISHED_HEADS
    if heads != PUBLISHED_HEADS:  # it would load there, but compute something else
        raise PrefixModelError(
            f"the original code's transformer mapper has {PUBLISHED_HEADS} heads, this one {heads}"
        )
    weights = {f"gpt.{name}": value for name, value in model.lm.state_dict().items()}
    if mask_buffers:
        weights |= _mask_buffers(model.lm.config.n_layer, model.lm.config.n_positions)
    ours = model.mapper.state_dict()
    names = mapper_names(model.config.mapper, count_layers(ours))
    return weights | {theirs: ours[name] for theirs, name in names.items()}


def gpt2_tokenizer(source: str | Path = GPT2_HUB_ID, *, offline: bool = False) -> Any:
    """Load GPT-2's tokenizer for a published checkpoint.

    Decoding removes spaces before punctuation, as transformers did when the checkpoints were
    published. This is part of the tokenizer and is saved with it, in tokenizer.json.

    Args:
        source: a local folder with tokenizer.json, or vocab.json and merges.txt; or a hub id.
        offline: use only files in the hub's local cache.

    Raises:
        PrefixModelError: files are missing; the message says which ones and where to put them.
    """
    folder, kind = Path(source), AutoTokenizer
    if folder.is_dir():
        found = {file.name for file in folder.iterdir()}
        if "tokenizer.json" not in found and not {"vocab.json", "merges.txt"} <= found:
            raise PrefixModelError(
                f"{folder} lacks a GPT-2 tokenizer: put tokenizer.json, or vocab.json and "
                f"merges.txt, of {GPT2_HUB_ID} there"
            )
        offline = True
        kind = AutoTokenizer if "tokenizer.json" in found else GPT2Tokenizer
    try:
        tokenizer = kind.from_pretrained(
            str(source), local_files_only=offline, clean_up_tokenization_spaces=False
        )
        tidy = [decoders.Replace(*pair) for pair in _TIDIED]
        tokenizer.backend_tokenizer.decoder = decoders.Sequence([decoders.ByteLevel(), *tidy])
        return tokenizer
    except Exception as error:  # errors of hub, files and tokenizers have no common type
        raise PrefixModelError(
            f"no usable GPT-2 tokenizer at {source!r} ({type(error).__name__}); put vocab.json and "
            f"merges.txt of {GPT2_HUB_ID} in a folder and give its path"
        ) from error


def _read(path: Path) -> dict[str, Tensor]:
    """Read a state dict without executing anything in the file."""
    if not path.is_file():
        raise PrefixModelError(f"missing file: {path}; download the checkpoint and put it there")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old pickle protocols, which do not matter here
            weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file can fail anywhere in torch's reader
        foreign = foreign_names(path)
        if foreign:
            raise PrefixModelError(
                f"{path} holds Python objects besides tensors (such as {foreign[0][:80]!r}), which"
                " could run code; nothing was executed. Use a file that holds only a state dict"
            ) from error
        raise _damaged(path) from error
    weights = bare_state_dict(weights)
    if not isinstance(weights, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in weights.items()
    ):
        raise PrefixModelError(f"{path} is not a state dict (names and tensors)")
    return weights


def _damaged(path: Path) -> PrefixModelError:
    size = path.stat().st_size
    return PrefixModelError(
        f"{path} ({size} bytes) is truncated or not a torch checkpoint; download it again"
    )


def _split(
    weights: dict[str, Tensor], path: Path, has_lm: bool
) -> tuple[str, dict[str, Tensor], dict[str, Tensor]]:
    """Return the kind of mapper, its weights under our names, and GPT-2's under transformers'."""
    old = [name for name in weights if _OLD_BUFFER.fullmatch(name)]
    if old:
        log.info("%s: dropped %d old GPT-2 mask buffers (%s, ...)", path, len(old), old[0])
    kept = {name: value for name, value in weights.items() if name not in set(old)}
    kind = find_kind(kept)
    layers = count_layers(name for name in kept if name.startswith("clip_project."))
    names = mapper_names(kind, layers)
    gpt = {name[4:]: value for name, value in kept.items() if name.startswith("gpt.")}
    lacking = [name for name in names if name not in kept]
    if not lacking and not gpt and not has_lm:
        raise PrefixModelError(
            f"{path} holds a mapper without its GPT-2: give the one that it was trained with, as"
            " language_model=GPT2LMHeadModel.from_pretrained(...)"
        )
    if gpt and "transformer.wte.weight" not in gpt:
        lacking.append("gpt.transformer.wte.weight")
    if lacking:
        raise PrefixModelError(
            f"{path} is not a ClipCap checkpoint with a mapper of kind {kind!r}: it lacks "
            f"{lacking[0]}"
        )
    strange = [name for name in kept if name not in names and not name.startswith("gpt.")]
    if strange:
        raise PrefixModelError(f"{path} holds unexpected weights, such as {strange[0]}")
    mapper = {ours: kept[theirs] for theirs, ours in names.items()}
    return kind, mapper, gpt


def _mask_buffers(layers: int, positions: int) -> dict[str, Tensor]:
    mask = torch.ones(positions, positions, dtype=torch.uint8).tril()[None, None]
    parts = {"bias": mask, "masked_bias": torch.tensor(-1e4)}
    return {
        f"gpt.transformer.h.{i}.attn.{name}": value
        for i in range(layers)
        for name, value in parts.items()
    }


def _build_gpt2(
    weights: dict[str, Tensor], path: Path, heads: int | None, tokenizer: Any
) -> GPT2LMHeadModel:
    """Build a GPT-2 of the weights' sizes."""
    token, inner = weights["transformer.wte.weight"], weights.get("transformer.h.0.mlp.c_fc.weight")
    position = weights.get("transformer.wpe.weight")
    if inner is None or position is None or not token.dim() == position.dim() == inner.dim() == 2:
        raise PrefixModelError(f"{path}: its language model is not a GPT-2")
    if not torch.equal(weights.get("lm_head.weight", token), token):
        raise PrefixModelError(
            f"{path}: gpt.lm_head.weight differs from gpt.transformer.wte.weight; in GPT-2 they "
            "are the same"
        )
    vocabulary, width = token.shape
    heads = heads or width // _HEAD_WIDTH
    if heads < 1 or width < 1 or width % heads:
        raise PrefixModelError(f"{path}: a GPT-2 of width {width} cannot have {heads} heads")
    end = tokenizer.eos_token_id
    return GPT2LMHeadModel(
        GPT2Config(
            vocab_size=vocabulary,
            n_positions=len(position),
            n_embd=width,
            n_layer=count_layers(weights),
            n_head=heads,
            n_inner=inner.shape[1],
            bos_token_id=end,
            eos_token_id=end,
        )
    )
