"""Seeded random ClipCap models for comparing with the published code; the tests build them, too."""

import zlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from prefix_models.clipcap.config import ClipCapConfig
from prefix_models.clipcap.model import ClipCap

PERIOD = 13  # id of "." in GPT-2's vocabulary, and of the toy one here


@dataclass(frozen=True)
class Case:
    """A random model and its inputs, fully determined by these numbers."""

    seed: int
    width: int = 32
    heads: int = 2
    layers: int = 2
    vocabulary: int = 60
    prefix_length: int = 10
    embedding_dim: int = 16
    rows: int = 4
    max_new_tokens: int = 24
    beam_size: int = 5
    temperature: float = 1.0
    period: float = 1.5  # how much louder "." is than other tokens: how early texts end
    mapper: str = "mlp"
    clip_length: int | None = None  # transformer only
    mapper_layers: int | None = None  # transformer only
    normalize_input: bool = False
    copies: int = 1  # tokens that share each vector, hence always tie exactly


def random_case(seed: int) -> Case:
    """Draw a case; the draws cover short and long texts, beams of mixed lengths, and ties."""
    draw = np.random.RandomState(seed)
    heads = int(draw.choice([1, 2, 4]))
    sizes = dict(
        width=16 * heads,
        heads=heads,
        layers=int(draw.choice([1, 2, 3])),
        vocabulary=int(draw.choice([20, 60, 200])),
        embedding_dim=int(draw.choice([8, 32])),
        max_new_tokens=int(draw.choice([1, 2, 8, 24, 40, 67])),
        beam_size=int(draw.choice([2, 3, 5, 5, 5])),
        # Among 6 or more equals the published top-p filter drops some, by torch's unstable sort.
        copies=int(draw.choice([1, 1, 1, 1, 2, 4])),
    )
    mapper = str(draw.choice(["linear", "mlp", "mlp", "transformer", "transformer"]))
    # The published predict.py takes the linear map above 10 vectors, and only there.
    lengths = [12, 40] if mapper == "linear" else [1, 4, 10, 40]
    if mapper == "transformer":
        sizes |= dict(
            clip_length=int(draw.choice([1, 10, 40])), mapper_layers=int(draw.choice([1, 2, 8]))
        )
    return Case(
        seed=seed,
        mapper=mapper,
        prefix_length=int(draw.choice(lengths)),
        temperature=float(draw.choice([0.7, 1.0, 1.0, 1.5])),
        period=float(draw.choice([1.0, 1.3, 1.6, 2.0])),
        normalize_input=bool(draw.choice([False, True])),
        **sizes,
    )


def build(case: Case) -> tuple[ClipCap, torch.Tensor]:
    """Return our model of a case and its embeddings [rows, d]."""
    lm = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=case.vocabulary,
            n_positions=112,
            n_embd=case.width,
            n_layer=case.layers,
            n_head=case.heads,
            bos_token_id=None,
            eos_token_id=None,
        )
    )
    config = ClipCapConfig(
        case.embedding_dim,
        prefix_length=case.prefix_length,
        mapper=case.mapper,
        clip_length=case.clip_length,
        mapper_layers=case.mapper_layers,
        normalize_input=case.normalize_input,
        stop="period",
    )
    model = ClipCap(lm, toy_tokenizer(case.vocabulary), config).eval()
    fill(model.lm, case.seed, "gpt.")
    fill(model.mapper, case.seed, "mapper.")
    with torch.no_grad():
        vectors = lm.transformer.wte.weight
        vectors[PERIOD] *= case.period
        vectors.copy_(vectors[torch.arange(len(vectors)) % (len(vectors) // case.copies)])
    draw = np.random.RandomState(case.seed + 1)
    embeddings = torch.from_numpy(draw.standard_normal((case.rows, case.embedding_dim))).float()
    return model, embeddings


def fill(module: nn.Module, seed: int, prefix: str = "") -> None:
    """Set every parameter from numpy, by its name: the same in every version of torch.

    RandomState, because its streams are frozen, unlike those of newer generators.
    """
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            draw = np.random.RandomState((zlib.crc32((prefix + name).encode()) + seed) % 2**32)
            values = torch.from_numpy(draw.standard_normal(tuple(parameter.shape))).float()
            if parameter.dim() == 1:  # biases near 0, LayerNorm scales near 1
                is_norm = ".ln_" in name or "_norm." in name
                parameter.copy_(0.1 * values + float(is_norm and name.endswith("weight")))
            elif prefix == "mapper.":  # of many layers, which louder weights would make chaotic
                parameter.copy_(values * (1.5 / parameter.shape[1] ** 0.5))
            else:
                fan_in = min(parameter.shape) if "wte" in name or "wpe" in name else 8
                parameter.copy_(values * (2.0 / fan_in**0.5))


def toy_tokenizer(vocabulary: int) -> PreTrainedTokenizerFast:
    """Words "0", "1", ... are their own ids, except that id 13 is written "."."""
    words = {"." if i == PERIOD else str(i): i for i in range(vocabulary)}
    backend = Tokenizer(models.WordLevel(words, unk_token="0"))
    backend.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=backend)


def some_tokens(case: Case, length: int = 3) -> torch.Tensor:
    """Return token ids [rows, length] to read logits after."""
    draw = np.random.RandomState(case.seed + 2)
    return torch.from_numpy(draw.randint(0, case.vocabulary, (case.rows, length)))


@torch.no_grad()
def our_logits(model: ClipCap, embeddings: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """Return the scores of every next token, [rows, T + 1, vocabulary]: after 0 to T tokens."""
    context = model.context(embeddings)
    inputs = torch.cat((context, model.lm.get_input_embeddings()(ids)), dim=1)
    scores: torch.Tensor = model.lm(inputs_embeds=inputs).logits[:, context.shape[1] - 1 :]
    return scores


def our_tokens(
    model: ClipCap, embeddings: torch.Tensor, case: Case
) -> tuple[list[Any], list[list[Any]]]:
    """Return greedy tokens of all rows and all beam hypotheses of all rows."""
    limit = case.max_new_tokens
    greedy = [one.token_ids for one in model.generate(embeddings, max_new_tokens=limit)]
    beams = model.beams(
        embeddings,
        max_new_tokens=limit,
        beam_size=case.beam_size,
        temperature=case.temperature,
    )
    return greedy, [[one.token_ids for one in row] for row in beams]
