"""Language models of other kinds than plain attention: what works gives the right text, else no."""

import logging
import warnings
from typing import Any

import pytest
import torch
import transformers
from packaging.version import Version
from transformers import CONFIG_MAPPING, AutoModelForCausalLM

from prefix_models import (
    ClipCap,
    ClipCapConfig,
    PrefixModelError,
    PrefixModelWarning,
    ProjectorConfig,
    ProjectorModel,
    word_tokenizer,
)
from prefix_models.lm.calling import calling_of
from tests.prefix_models.kinds import DIM, SIZES, WORDS, causal_lm

TOKENIZER = word_tokenizer(WORDS)
COMMON = SIZES | {
    "vocab_size": len(TOKENIZER),
    "hidden_size": 16,
    "max_position_embeddings": 64,
    "initializer_range": 0.6,
    "bos_token_id": None,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
HEADS = {"num_key_value_heads": 1, "head_dim": 8}
MAMBA = {
    f"mamba_{name}": value
    for name, value in {"n_heads": 4, "d_head": 8, "d_state": 4, "n_groups": 1}.items()
}
EXPERTS = {"num_experts_per_tok": 1, "moe_intermediate_size": 8}
LINEAR = {
    f"linear_{name}": value
    for name, value in {
        "num_key_heads": 2, "num_value_heads": 2, "key_head_dim": 8, "value_head_dim": 8,
    }.items()
}  # fmt: skip

# Attention in one layer, and a state of fixed size in another or beside it.
HYBRIDS: dict[str, dict[str, Any]] = {
    "lfm2": {"layer_types": ["conv", "full_attention"], "num_key_value_heads": 1},
    "qwen3_next": HEADS | EXPERTS | LINEAR | {
        "layer_types": ["linear_attention", "full_attention"],
        "num_experts": 2, "shared_expert_intermediate_size": 8,
    },
    "granitemoehybrid": HEADS | MAMBA | {
        "layer_types": ["mamba", "attention"], "num_local_experts": 2, "num_experts_per_tok": 1,
        "shared_intermediate_size": 8,
    },
    "jamba": {
        "attn_layer_period": 2, "attn_layer_offset": 1, "num_experts": 1, "num_experts_per_tok": 1,
        "use_mamba_kernels": False, "mamba_d_state": 4, "mamba_dt_rank": 4,
        "num_key_value_heads": 1,
    },
    "falcon_h1": MAMBA | {"mamba_d_ssm": 32, "num_key_value_heads": 1},
    "bamba": MAMBA | {"attn_layer_indices": [1], "num_key_value_heads": 1},
}  # fmt: skip
# No attention at all: a state of fixed size in every layer.
RECURRENT: dict[str, dict[str, Any]] = {
    "mamba": {"state_size": 4},
    "mamba2": {
        "state_size": 4,
        "num_heads": 4,
        "head_dim": 8,
        "n_groups": 1,
        "expand": 2,
        "chunk_size": 4,
    },
}
# State a usable cache of their own kind, or inside the model.
OTHERS: dict[str, dict[str, Any]] = {
    "rwkv": {"attention_hidden_size": 16, "context_length": 64},
    "recurrent_gemma": {"num_hidden_layers": 3, "num_key_value_heads": 1},
    "minimax": HEADS | {
        "layer_types": ["linear_attention", "full_attention"],
        "num_local_experts": 2, "num_experts_per_tok": 1, "block_size": 4,
    },
}  # fmt: skip
# Those whose forward takes no position_ids.
PLACELESS: dict[str, dict[str, Any]] = {
    "bart": {
        "d_model": 16, "decoder_layers": 2, "decoder_attention_heads": 2, "decoder_ffn_dim": 24,
        "encoder_layers": 1, "encoder_attention_heads": 2, "encoder_ffn_dim": 24, "init_std": 0.6,
    },
    "bloom": {"n_layer": 2, "n_head": 2},
    "mpt": {"d_model": 16, "n_heads": 2, "n_layers": 2, "max_seq_len": 64},
}  # fmt: skip
SETTINGS = HYBRIDS | RECURRENT | OTHERS | PLACELESS
PROMPTS = ["compare the <region1> with <region2> on snow", "describe <region>"]
REGIONS = 3 * torch.randn(6, DIM, generator=torch.Generator().manual_seed(1))


def lm_of(kind: str) -> Any:
    if kind not in CONFIG_MAPPING:
        pytest.skip(f"this transformers has no {kind}")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = CONFIG_MAPPING[kind](**COMMON | SETTINGS[kind])
        return AutoModelForCausalLM.from_config(config).eval()


def projector_of(lm: Any) -> ProjectorModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = ProjectorConfig(embedding_dim=DIM, tokens_per_region=3)
        return ProjectorModel(lm, TOKENIZER, settings).eval()


# Before this, their forwards kept a cache only where they were given one of a class of their own.
UNCACHED = {"granitemoehybrid", "falcon_h1", "bamba"}
IS_OLD = Version(transformers.__version__) < Version("5.23")


@pytest.fixture(params=[*HYBRIDS, *RECURRENT])
def stateful(request: pytest.FixtureRequest) -> ProjectorModel:
    # They say at every construction that their faster kernels are not installed.
    logging.disable(logging.WARNING)
    try:
        lm = lm_of(request.param)
    finally:
        logging.disable(logging.NOTSET)
    if IS_OLD and request.param in UNCACHED:
        with pytest.raises(PrefixModelError, match="returns none"):
            projector_of(lm)
        pytest.skip("this transformers keeps its state nowhere")
    with warnings.catch_warnings():
        if IS_OLD and request.param in RECURRENT:  # read without a cache, and so they say
            warnings.simplefilter("ignore", PrefixModelWarning)
        return projector_of(lm)


@torch.no_grad()
def scores(model: ProjectorModel, region: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Log-probabilities [T, vocabulary] of a text's tokens, by one full pass without cache."""
    words = model.lm.get_input_embeddings()(torch.tensor([ids[:-1]], dtype=torch.long))
    inputs = torch.cat((model.context(region[None]), words), 1)
    logits = model.lm(inputs_embeds=inputs, use_cache=False).logits
    return logits[0, -len(ids) :].log_softmax(-1)


def test_stateful_models_write_what_a_full_pass_would(stateful: ProjectorModel) -> None:
    for region, found in zip(REGIONS, stateful.generate(REGIONS, max_new_tokens=10), strict=True):
        expected = scores(stateful, region, found.token_ids)
        assert found.token_ids == expected.argmax(-1).tolist()


def test_stateful_models_beams_have_the_models_own_log_probabilities(
    stateful: ProjectorModel,
) -> None:
    found = stateful.beams(REGIONS, beam_size=3, max_new_tokens=10)
    for region, beam in zip(REGIONS, found, strict=True):
        assert len({tuple(one.token_ids) for one in beam}) == 3
        for one in beam:
            expected = scores(stateful, region, one.token_ids)
            expected = expected.gather(1, torch.tensor(one.token_ids)[:, None])[:, 0]
            torch.testing.assert_close(
                torch.tensor(one.token_logprobs), expected, atol=1e-3, rtol=1e-3
            )
    (alone,) = stateful.beams(REGIONS[1:2], beam_size=3, max_new_tokens=10)
    assert [one.token_ids for one in alone] == [one.token_ids for one in found[1]]


@pytest.mark.parametrize("kind", list(OTHERS))
def test_those_without_a_cache_are_refused(kind: str) -> None:
    lm = lm_of(kind)
    with pytest.raises(
        PrefixModelError, match=f"a usable cache, .*found {type(lm).__name__}"
    ) as error:
        ProjectorModel(lm, TOKENIZER, ProjectorConfig(embedding_dim=DIM))
    assert "\n" not in str(error.value)
    with pytest.raises(PrefixModelError, match="a usable cache"):
        ClipCap(lm, TOKENIZER, ClipCapConfig(embedding_dim=DIM, prefix_length=2, mapper="linear"))


def test_a_compiled_one_is_taken() -> None:
    calling_of(torch.compile(causal_lm("llama", len(TOKENIZER))))


def answers(model: ProjectorModel, *chosen: int) -> list[list[int]]:
    regions = [REGIONS[:2], REGIONS[2:3]]
    found = model.answer(
        [PROMPTS[n] for n in chosen], [regions[n] for n in chosen], max_new_tokens=10
    )
    return [one.token_ids for one in found]


@pytest.mark.parametrize("kind", ["bloom", "mpt"])
def test_distances_need_no_positions(kind: str) -> None:
    model = projector_of(lm_of(kind))
    assert answers(model, 0, 1) == answers(model, 0) + answers(model, 1)


@pytest.mark.parametrize("decoding", ["greedy", "beam"])
def test_padding_is_refused_where_it_would_shift_positions(decoding: str) -> None:
    model = projector_of(lm_of("bart"))
    with pytest.raises(PrefixModelError, match=r"equal length.*BartFor.*found 8 to 1\d ") as error:
        model.answer(PROMPTS, [REGIONS[:2], REGIONS[2:3]], decoding=decoding)
    assert "\n" not in str(error.value)
    assert answers(model, 1, 1) == 2 * answers(model, 1)
