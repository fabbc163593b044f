"""How a language model is called is found by trying: today's models, and some of tomorrow."""

import copy
import functools
import gc
import warnings
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM
from transformers.modeling_outputs import ModelOutput

from prefix_models import (
    ClipCap,
    ClipCapConfig,
    PrefixModelError,
    PrefixModelWarning,
    ProjectorConfig,
    ProjectorModel,
    word_tokenizer,
)
from prefix_models.lm import calling
from tests.prefix_models.kinds import DIM, SIZES, WORDS, causal_lm

TOKENIZER = word_tokenizer(WORDS)
REGIONS = 3 * torch.randn(4, DIM, generator=torch.Generator().manual_seed(1))
PROMPTS = ["compare the <region1> with <region2> on snow", "describe <region>"]


class KeywordsOnly(LlamaForCausalLM):
    """A forward whose signature says nothing."""

    def forward(self, **kwargs: Any) -> Any:
        return super().forward(**kwargs)


class RenamedAgain(LlamaForCausalLM):
    """The cache under a name that nobody has seen yet."""

    def forward(self, *, memory: Any = None, **kwargs: Any) -> Any:
        name = today()
        assert name not in kwargs
        given = {} if memory is None else {name: memory}
        output = super().forward(**given, **kwargs)
        return ModelOutput({{name: "memory"}.get(key, key): output[key] for key in output})


class OwnCache(LlamaForCausalLM):
    """A cache of a class of its own."""

    def forward(self, **kwargs: Any) -> Any:
        output, name = super().forward(**kwargs), today()
        if output.get(name) is not None:
            kind = type(output[name])
            if not kind.__name__.startswith("Own"):
                output[name].__class__ = type(f"Own{kind.__name__}", (kind,), {})
        return output


class NoCache(LlamaForCausalLM):
    """What it has read it does not give back."""

    def forward(self, **kwargs: Any) -> Any:
        return ModelOutput(logits=super().forward(**kwargs).logits)


class StrangeCache(LlamaForCausalLM):
    """A cache whose rows are reordered by a method of another name."""

    def forward(self, **kwargs: Any) -> Any:
        output = super().forward(**kwargs)
        if output.get(today()) is not None:
            output[today()] = Opaque(output[today()])
        return output


class Opaque:
    """Nothing that is known of caches."""

    def __init__(self, cache: Any) -> None:
        self.hidden = cache


class ForgetsPositions(LlamaForCausalLM):
    """Takes positions for those of a text's start: what its cache holds is read wrongly."""

    def forward(self, *, position_ids: Any = None, **kwargs: Any) -> Any:
        count = kwargs["inputs_embeds"].shape[1]
        return super().forward(position_ids=torch.arange(count)[None], **kwargs)


@functools.cache
def today() -> str:
    """What this transformers calls the cache."""
    with torch.random.fork_rng():
        lm = causal_lm("llama", 20).eval()
    output = lm(inputs_embeds=torch.zeros(1, 1, 16), use_cache=True)
    return next(name for name in output if hasattr(output[name], "reorder_cache"))


def lm_of(kind: type = LlamaForCausalLM, **config: Any) -> Any:
    settings = {
        "vocab_size": len(TOKENIZER), "hidden_size": 16, "max_position_embeddings": 64,
        "initializer_range": 0.6, "bos_token_id": None, "eos_token_id": 2, "pad_token_id": None,
        **SIZES, **config,
    }  # fmt: skip
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return kind(LlamaConfig(**settings)).eval()


def projector(lm: Any) -> ProjectorModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = ProjectorConfig(embedding_dim=DIM, tokens_per_region=3)
        return ProjectorModel(lm, TOKENIZER, settings).eval()


def written(model: ProjectorModel) -> list[list[int]]:
    """Tokens of all ways of writing: greedy and in beams, one prompt and several of any length."""
    rows = model.generate(REGIONS, max_new_tokens=8)
    rows += model.generate(REGIONS, max_new_tokens=8, decoding="beam", beam_size=3)
    rows += model.answer(PROMPTS, [REGIONS[:2], REGIONS[2:3]], max_new_tokens=8)
    return [row.token_ids for row in rows]


@pytest.fixture(scope="module")
def usual() -> list[list[int]]:
    return written(projector(lm_of()))


@pytest.fixture
def no_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


@pytest.mark.usefixtures("no_warnings")
@pytest.mark.parametrize("kind", [KeywordsOnly, RenamedAgain, OwnCache])
def test_tomorrows_models_write_the_same(kind: type, usual: list[list[int]]) -> None:
    model = projector(lm_of(kind))
    assert written(model) == usual
    assert calling.calling_of(model.lm).cache is not None


def test_a_renamed_cache_is_found_under_its_new_name() -> None:
    assert calling.calling_of(lm_of(RenamedAgain)).cache == "memory"


def test_one_that_returns_no_cache_is_refused_by_name() -> None:
    with pytest.raises(PrefixModelError, match=r"found NoCache \(llama\), which returns none"):
        projector(lm_of(NoCache))


def test_one_in_doubt_is_read_without_cache_and_named_once(usual: list[list[int]]) -> None:
    with pytest.warns(PrefixModelWarning) as seen:
        model = projector(lm_of(StrangeCache))
        assert written(model) == usual
    (warning,) = seen
    text = str(warning.message)
    assert "StrangeCache" in text and "AttributeError" in text and "reorder_cache" in text
    assert "transformers 5." in text and "\n" not in text


def test_a_cache_that_changes_answers_is_refused_or_where_it_was_right_not_used() -> None:
    lm = lm_of(ForgetsPositions)
    with pytest.raises(PrefixModelError, match=r"ForgetsPositions.*changes its answers"):
        projector(lm)
    trusted = lm_of(ForgetsPositions)
    calling.trust(trusted)
    with pytest.warns(PrefixModelWarning, match="changes its answers"):
        model = projector(trusted)
    assert len(model.generate(REGIONS, max_new_tokens=3)) == len(REGIONS)


def test_a_saved_model_is_never_refused(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        settings = ClipCapConfig(embedding_dim=DIM, prefix_length=2, mapper="linear")
        model = ClipCap(lm_of(), TOKENIZER, settings).eval()
    model.save_pretrained(tmp_path / "model")
    expected = [one.token_ids for one in model.generate(REGIONS, max_new_tokens=8)]
    monkeypatch.setattr(LlamaForCausalLM, "forward", forgetful(LlamaForCausalLM.forward))
    with pytest.warns(PrefixModelWarning, match="without a cache"):
        read = ClipCap.from_pretrained(tmp_path / "model")
    assert [one.token_ids for one in read.generate(REGIONS, max_new_tokens=8)] == expected


def forgetful(forward: Any) -> Any:
    """A library that lost the cache."""

    def without_cache(self: Any, **kwargs: Any) -> Any:
        return ModelOutput(logits=forward(self, **kwargs).logits)

    return without_cache


def test_what_reads_no_embeddings_is_refused() -> None:
    class IdsOnly(LlamaForCausalLM):
        def forward(self, input_ids: Any, **kwargs: Any) -> Any:
            return super().forward(input_ids, **kwargs)

    with pytest.raises(PrefixModelError, match=r"takes inputs_embeds, found IdsOnly \(llama\)"):
        projector(lm_of(IdsOnly))


class Counting(LlamaForCausalLM):
    passes = 0

    def forward(self, **kwargs: Any) -> Any:
        self.passes += 1
        return super().forward(**kwargs)


def test_a_model_is_tried_once_and_forgotten_with_it() -> None:
    lm = lm_of(Counting)
    calling.calling_of(lm)
    tried = lm.passes
    assert 0 < tried <= 6
    for ask in (calling.calling_of, calling.reads_padding, calling.weighs_positions):
        ask(lm)
    after = lm.passes
    for ask in (calling.calling_of, calling.reads_padding, calling.weighs_positions):
        ask(lm)
    assert lm.passes == after
    gone = weakref.ref(lm)
    del lm
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_trying_changes_nothing(mode: Any) -> None:
    lm = lm_of(attention_dropout=0.5).train()
    lm.model.layers[0].eval()
    flags = [part.training for part in lm.modules()]
    before = copy.deepcopy(lm.state_dict())
    state = torch.get_rng_state()
    with mode():
        found = calling.calling_of(lm)
        assert calling.reads_padding(lm) and calling.weighs_positions(lm)
    assert found.cache is not None
    assert [part.training for part in lm.modules()] == flags
    assert torch.equal(torch.get_rng_state(), state)
    for name, value in lm.state_dict().items():
        assert torch.equal(value, before[name])
    assert all(one.grad is None and one.requires_grad for one in lm.parameters())


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
@pytest.mark.parametrize("kind", ["gpt2", "llama", "qwen2"])
def test_precision_is_no_reason_to_refuse(kind: str, dtype: torch.dtype) -> None:
    lm = causal_lm(kind, 20).eval().to(dtype)
    assert calling.calling_of(lm).cache is not None
    assert calling.reads_padding(lm) and calling.weighs_positions(lm)


@pytest.mark.usefixtures("no_warnings")
def test_what_surrounds_the_trial_does_not_reach_it() -> None:
    lm = lm_of()
    with torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        assert calling.calling_of(lm).cache is not None


def ignores_masks(
    module: Any, query: Any, key: Any, value: Any, attention_mask: Any, **options: Any
) -> Any:
    mixed = torch.nn.functional.scaled_dot_product_attention(
        query, key, value, is_causal=query.shape[2] > 1, enable_gqa=True
    )
    return mixed.transpose(1, 2), None


def test_attention_that_ignores_masks_neither_weighs_nor_pads() -> None:
    AttentionInterface.register("ignores_masks", ignores_masks)
    lm = lm_of()
    lm.set_attn_implementation("ignores_masks")
    assert calling.calling_of(lm).cache is not None
    assert not calling.weighs_positions(lm) and not calling.reads_padding(lm)
    assert calling.weighs_positions(lm_of()) and calling.reads_padding(lm_of())


def test_names_say_what_is_inside_a_wrapper() -> None:
    assert calling.display_name(lm_of()) == "LlamaForCausalLM"
    assert calling.display_name(torch.compile(lm_of())).endswith("(llama)")
