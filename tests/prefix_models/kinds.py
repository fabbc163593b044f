"""Tiny random prefix models of every kind, for the tests that all must pass."""

from collections.abc import Callable
from typing import Any

import torch
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, Qwen2Config

from prefix_models import (
    ClipCap,
    ClipCapConfig,
    PrefixModel,
    ProjectorConfig,
    ProjectorModel,
    add_lora,
    word_tokenizer,
)

WORDS = ["a", "the", "red", "blue", ",", ".", "cat", "dog", "bird", "owl", "on", "snow", "grass"]
WORDS += ["compare", "with", "describe", "this", "region"]
DIM = 12
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 24}


def causal_lm(kind: str, vocabulary: int, *, positions: int = 64, dropout: float = 0.0) -> Any:
    """A tiny random language model, far from uniform, so that argmax has no near ties."""
    common = {
        "vocab_size": vocabulary,
        "hidden_size": 16,
        "max_position_embeddings": positions,
        "initializer_range": 0.6,
        "bos_token_id": None,
        "eos_token_id": 2,
        "pad_token_id": None,
    }
    config = {
        "gpt2": lambda: GPT2Config(
            n_layer=2, n_head=2, resid_pdrop=dropout, embd_pdrop=dropout, attn_pdrop=dropout,
            **common,
        ),
        "llama": lambda: LlamaConfig(attention_dropout=dropout, **SIZES, **common),
        "qwen2": lambda: Qwen2Config(
            attention_dropout=dropout, num_key_value_heads=1, **SIZES, **common
        ),
    }[kind]()  # fmt: skip
    return AutoModelForCausalLM.from_config(config)


def clipcap(mapper: str, **config: Any) -> ClipCap:
    tokenizer = word_tokenizer(WORDS)
    sizes = {"mapper_layers": 2, "mapper_heads": 2} if mapper == "transformer" else {}
    settings = ClipCapConfig(
        **{"embedding_dim": DIM, "prefix_length": 4, "mapper": mapper, **sizes, **config}
    )
    return ClipCap(causal_lm("gpt2", len(tokenizer), dropout=0.1), tokenizer, settings).eval()


def projector(lm: str, *, lora: bool = False, padding: int = 0, **config: Any) -> ProjectorModel:
    tokenizer = word_tokenizer(WORDS)
    language_model = causal_lm(lm, len(tokenizer) + padding)
    if lora:
        language_model = add_lora(language_model, rank=3)
        with torch.no_grad():  # untrained adapters change nothing
            for name, parameter in language_model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_(std=0.5)
    settings = ProjectorConfig(**{"embedding_dim": DIM, "tokens_per_region": 3, **config})
    return ProjectorModel(language_model, tokenizer, settings).eval()


# A new prefix model is one line here.
KINDS: dict[str, Callable[..., PrefixModel]] = {
    "clipcap-linear": lambda **config: clipcap("linear", **config),
    "clipcap-mlp": lambda **config: clipcap("mlp", **config),
    "clipcap-transformer": lambda **config: clipcap("transformer", **config),
    "projector-linear-gpt2": lambda **config: projector("gpt2", projector="linear", **config),
    "projector-mlp-llama": lambda **config: projector("llama", **config),
    "projector-mlp-qwen2-more-rows-than-tokens": lambda **config: projector(
        "qwen2", padding=5, **config
    ),
    "projector-lora-llama": lambda **config: projector("llama", lora=True, **config),
}


def make(kind: str, seed: int = 0, **config: Any) -> PrefixModel:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return KINDS[kind](**config)
