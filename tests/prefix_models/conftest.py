import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from prefix_models import ClipCap, ClipCapConfig, word_tokenizer

WORDS = [
    "a",
    "an",
    "and",
    "the",
    "red",
    "blue",
    ",",
    ".",
    "cat",
    "dog",
    "bird",
    "taxi",
    "owl",
    "on",
    "snow",
    "grass",
]
DIM = 12


def tiny_lm(vocabulary: int, positions: int = 40, dropout: float = 0.1) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=vocabulary,
        n_positions=positions,
        n_embd=16,
        n_layer=2,
        n_head=2,
        embd_pdrop=dropout,
        resid_pdrop=dropout,
        attn_pdrop=dropout,
        bos_token_id=None,
        eos_token_id=2,
        initializer_range=0.6,  # far from uniform, so that argmax has no near ties
    )
    return GPT2LMHeadModel(config)


@pytest.fixture
def build() -> Callable[..., ClipCap]:
    """Build a tiny random ClipCap: build(seed=0, positions=40, dropout=0.1, **config)."""

    def make(seed: int = 0, positions: int = 40, dropout: float = 0.1, **config: object) -> ClipCap:
        tokenizer = word_tokenizer(WORDS)
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            settings = ClipCapConfig(
                **{"embedding_dim": DIM, "prefix_length": 4, "stop": "eos", **config}
            )
            lm = tiny_lm(len(tokenizer), positions, dropout)
            return ClipCap(lm, tokenizer, settings).eval()

    return make


@pytest.fixture
def model(build: Callable[..., ClipCap]) -> ClipCap:
    return build()


@pytest.fixture
def embeddings() -> torch.Tensor:
    return 3 * torch.randn(5, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture(scope="session")
def benchmark() -> ModuleType:
    """The module of seeded models behind the reference files; benchmarks are no package."""
    path = Path(__file__).parents[2] / "benchmarks/clipcap_cases.py"
    spec = importlib.util.spec_from_file_location("clipcap_cases", path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module
