"""Embedding -> visual prefix -> text.

A prefix is a few vectors that a mapper makes of one image or region embedding. A prefix model puts
them in front of a language model's text (ClipCap, Mokady et al. 2021) or into its prompt
(`ProjectorModel`, after LLaVA, Liu et al. 2023). A ClipCap model may hold several mappers, each
called by the name of its prefix.

Names are imported on first use, so that `prefix_models.errors` costs nothing where no model is
needed.
"""

from typing import TYPE_CHECKING

from prefix_models.lazy import on_first_use

if TYPE_CHECKING:
    from prefix_models.base import PrefixModel
    from prefix_models.clipcap.config import ClipCapConfig
    from prefix_models.clipcap.mappers import LinearMapper, MLPMapper, TransformerMapper
    from prefix_models.clipcap.model import ClipCap
    from prefix_models.clipcap.original import (
        gpt2_tokenizer,
        load_original,
        original_state_dict,
    )
    from prefix_models.decoding.options import Generation
    from prefix_models.dispatch import load_prefix_model
    from prefix_models.errors import PrefixModelError, PrefixModelWarning
    from prefix_models.llava import LlavaReader
    from prefix_models.lm.lora import add_lora
    from prefix_models.lm.word_tokenizer import word_tokenizer
    from prefix_models.projector.config import ProjectorConfig
    from prefix_models.projector.model import ProjectorModel

_HOMES = {
    "ClipCap": "clipcap.model",
    "ClipCapConfig": "clipcap.config",
    "Generation": "decoding.options",
    "LinearMapper": "clipcap.mappers",
    "LlavaReader": "llava",
    "MLPMapper": "clipcap.mappers",
    "PrefixModel": "base",
    "PrefixModelError": "errors",
    "PrefixModelWarning": "errors",
    "ProjectorConfig": "projector.config",
    "ProjectorModel": "projector.model",
    "TransformerMapper": "clipcap.mappers",
    "add_lora": "lm.lora",
    "gpt2_tokenizer": "clipcap.original",
    "load_original": "clipcap.original",
    "load_prefix_model": "dispatch",
    "original_state_dict": "clipcap.original",
    "word_tokenizer": "lm.word_tokenizer",
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


__getattr__ = on_first_use(__name__, _HOMES)


def __dir__() -> list[str]:
    return __all__
