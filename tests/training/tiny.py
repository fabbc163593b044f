"""Tiny models and pairs for the tests of training."""

import torch
from transformers import GPT2Config, GPT2LMHeadModel

from prefix_models import ClipCap, ClipCapConfig, ProjectorConfig, ProjectorModel, word_tokenizer
from training.data.pairs import Pairs

WORDS = ["a", "an", "and", "red", "blue", "car", "owl", "bus", "corn", "on", "the", "snow", "."]
TEXTS = ["a red car on the snow", "an owl", "corn and a blue bus", "corn"]
DIM = 12


def pairs() -> Pairs:
    """32 pairs of 4 texts of unequal length."""
    embeddings = torch.randn(4, DIM, generator=torch.Generator().manual_seed(0))
    return Pairs(embeddings.repeat(8, 1), TEXTS * 8)


def tiny_lm(dropout: float = 0.0) -> tuple[GPT2LMHeadModel, object]:
    tokenizer = word_tokenizer(WORDS)
    config = GPT2Config(
        vocab_size=len(tokenizer), n_positions=48, n_embd=16, n_layer=2, n_head=2,
        embd_pdrop=dropout, resid_pdrop=dropout, attn_pdrop=dropout,
        bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return GPT2LMHeadModel(config), tokenizer


def tiny_clipcap(dropout: float = 0.0, width: int = 20, **config: object) -> ClipCap:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm, tokenizer = tiny_lm(dropout)
        settings = ClipCapConfig(DIM, prefix_length=3, mapper_width=width, **config)
        return ClipCap(lm, tokenizer, settings)


def tiny_projector() -> ProjectorModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        lm, tokenizer = tiny_lm()
        settings = ProjectorConfig(DIM, tokens_per_region=2, prompt="<region> a")
        return ProjectorModel(lm, tokenizer, settings)
