"""Embedding -> visual prefix -> text.

A prefix model puts a few vectors, mapped from one image or region embedding, in front of a
language model's text (ClipCap, Mokady et al. 2021), or in its prompt (`ProjectorModel`, after
LLaVA, Liu et al. 2023). Names are imported on first use, so that
`prefix_models.errors` costs nothing where no model is needed.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefix_models.checkpoints import (
        gpt2_tokenizer,
        load_original,
        original_state_dict,
    )
    from prefix_models.clipcap import ClipCap
    from prefix_models.config import ClipCapConfig
    from prefix_models.decoding.options import Generation
    from prefix_models.errors import PrefixModelError, PrefixModelWarning
    from prefix_models.llava_reader import LlavaReader
    from prefix_models.lm.lora import add_lora
    from prefix_models.loading import load_prefix_model
    from prefix_models.mappers import LinearMapper, MLPMapper, TransformerMapper
    from prefix_models.prefix_model import PrefixModel
    from prefix_models.projector_config import ProjectorConfig
    from prefix_models.projector_model import ProjectorModel
    from prefix_models.words import word_tokenizer

_HOMES = {
    "ClipCap": "clipcap",
    "ClipCapConfig": "config",
    "Generation": "decoding.options",
    "LinearMapper": "mappers",
    "LlavaReader": "llava_reader",
    "MLPMapper": "mappers",
    "PrefixModel": "prefix_model",
    "PrefixModelError": "errors",
    "PrefixModelWarning": "errors",
    "ProjectorConfig": "projector_config",
    "ProjectorModel": "projector_model",
    "TransformerMapper": "mappers",
    "add_lora": "lm.lora",
    "gpt2_tokenizer": "checkpoints",
    "load_original": "checkpoints",
    "load_prefix_model": "loading",
    "original_state_dict": "checkpoints",
    "word_tokenizer": "words",
}

__all__ = [
    "ClipCap",
    "ClipCapConfig",
    "Generation",
    "LinearMapper",
    "LlavaReader",
    "MLPMapper",
    "PrefixModel",
    "PrefixModelError",
    "PrefixModelWarning",
    "ProjectorConfig",
    "ProjectorModel",
    "TransformerMapper",
    "add_lora",
    "gpt2_tokenizer",
    "load_original",
    "load_prefix_model",
    "original_state_dict",
    "word_tokenizer",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'prefix_models' has no attribute {name!r}")
    return getattr(import_module(f"prefix_models.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return __all__
