"""Logits processors, against transformers' own `generate` and against their definitions."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from prefix_models import ClipCap, ClipCapConfig, Generation, PrefixModelError
from prefix_models.decoding import DecodeOptions, logits_processors

END, THE, RED, CAT, DOG = 2, 6, 7, 11, 12  # ids of conftest's words
PROCESSED = [
    {"min_new_tokens": 9},
    {"repetition_penalty": 1.7},
    {"repetition_penalty": 0.6},
    {"no_repeat_ngram_size": 1},
    {"no_repeat_ngram_size": 2},
    {"bad_words_ids": [[CAT], [DOG, DOG], [THE, RED, CAT]]},
    {"eos_token_id": [CAT, DOG]},
    {"eos_token_id": RED, "min_new_tokens": 4, "repetition_penalty": 2},
    {"min_new_tokens": 6, "repetition_penalty": 1.2, "no_repeat_ngram_size": 2,
     "bad_words_ids": [[CAT], [RED, THE]]},
]  # fmt: skip
WAYS = [
    {"decoding": "greedy"},
    {"decoding": "sample", "seed": [3, 1, 4, 1, 5], "temperature": 2.0},
    {"decoding": "beam", "beam_size": 4},
]


@torch.no_grad()
def logits_along(model: ClipCap, embedding: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Scores [len(ids), vocabulary] that each token was chosen by, from one pass without cache."""
    words = model.lm.get_input_embeddings()(torch.tensor([ids]))
    context = model.context(embedding[None])
    logits = model.lm(inputs_embeds=torch.cat((context, words), 1), use_cache=False).logits[0]
    return logits[context.shape[1] - 1 : -1]


def hypotheses(model: ClipCap, embeddings: torch.Tensor, **options: Any) -> list[list[Generation]]:
    if options["decoding"] == "beam":
        return model.beams(embeddings, **options)
    return [[one] for one in model.generate(embeddings, **options)]


def ngrams(ids: list[int], size: int) -> list[tuple[int, ...]]:
    return [tuple(ids[i : i + size]) for i in range(len(ids) + 1 - size)]


def check_allowed(ids: list[int], options: dict[str, Any]) -> None:
    asked = DecodeOptions.from_dict(options)
    ends = asked.end_ids or [END]
    assert not set(ids[:-1]) & set(ends)
    assert len(ids) - (ids[-1] in ends) >= asked.min_new_tokens
    for bad in asked.bad_words_ids:
        assert tuple(bad) not in ngrams(ids, len(bad))
    if asked.no_repeat_ngram_size:
        found = ngrams(ids, asked.no_repeat_ngram_size)
        assert len(set(found)) == len(found)


# --- greedy: transformers' own tokens


@pytest.mark.parametrize("options", PROCESSED, ids=str)
@pytest.mark.filterwarnings("ignore:Passing .* with `inputs_embeds`")
def test_greedy_writes_what_transformers_generate_writes(
    build: Callable[..., ClipCap], embeddings: torch.Tensor, options: dict[str, Any]
) -> None:
    changed = 0
    for seed in range(4):
        model = build(seed)
        with torch.no_grad():
            context = model.context(embeddings)
        asked = {"eos_token_id": END, **options}
        if "repetition_penalty" in asked:
            asked["repetition_penalty"] = float(asked["repetition_penalty"])
        theirs = model.lm.generate(
            inputs_embeds=context,
            attention_mask=torch.ones(context.shape[:2], dtype=torch.long),
            do_sample=False,
            max_new_tokens=20,
            pad_token_id=0,
            **asked,
        ).tolist()
        ours = model.generate(embeddings, max_new_tokens=20, **options)
        plain = model.generate(embeddings, max_new_tokens=20)
        for row, one, without in zip(theirs, ours, plain, strict=True):
            assert one.token_ids == row[: len(one.token_ids)]
            assert not any(row[len(one.token_ids) :])  # they pad
            check_allowed(one.token_ids, options)
            changed += one.token_ids != without.token_ids
    assert changed >= 3


# --- every way of decoding


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["decoding"])
@pytest.mark.parametrize("options", PROCESSED, ids=str)
def test_processors_hold_for_every_hypothesis(
    build: Callable[..., ClipCap], embeddings: torch.Tensor, way: dict, options: dict
) -> None:
    for seed in range(3):
        model = build(seed)
        for row in hypotheses(model, embeddings, max_new_tokens=14, **way, **options):
            assert row
            for one in row:
                check_allowed(one.token_ids, options)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["decoding"])
@pytest.mark.parametrize("options", PROCESSED, ids=str)
def test_logprobs_stay_the_models_own(
    model: ClipCap, embeddings: torch.Tensor, way: dict, options: dict
) -> None:
    found = hypotheses(model, embeddings, max_new_tokens=10, **way, **options)
    for embedding, row in zip(embeddings, found, strict=True):
        for one in row:
            scores = logits_along(model, embedding, one.token_ids).log_softmax(-1)
            expected = scores.gather(1, torch.tensor(one.token_ids)[:, None])[:, 0].tolist()
            assert one.token_logprobs == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["decoding"])
@pytest.mark.parametrize("options", PROCESSED, ids=str)
def test_text_does_not_depend_on_the_batch(
    build: Callable[..., ClipCap], embeddings: torch.Tensor, way: dict, options: dict
) -> None:
    model, options = build(1), {"max_new_tokens": 12, **options}
    together = model.generate(embeddings, **way, **options)
    for i, one in enumerate(together):
        alone = {**way, "seed": way["seed"][i]} if "seed" in way else way
        [again] = model.generate(embeddings[i : i + 1], **alone, **options)
        assert (again.text, again.token_ids) == (one.text, one.token_ids)
        if way["decoding"] != "beam":
            pieces = model.stream(embeddings[i : i + 1], **alone, **options)
            assert "".join(pieces) == one.text


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["decoding"])
def test_other_dtypes(
    model: ClipCap, embeddings: torch.Tensor, dtype: torch.dtype, way: dict
) -> None:
    for row in hypotheses(model.to(dtype), embeddings, **way, **PROCESSED[-1]):
        for one in row:
            check_allowed(one.token_ids, PROCESSED[-1])


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["decoding"])
def test_options_that_forbid_nothing_change_nothing(
    model: ClipCap, embeddings: torch.Tensor, way: dict
) -> None:
    idle = {"repetition_penalty": 1, "top_k": 0, "min_new_tokens": 0, "no_repeat_ngram_size": 0}
    asked = DecodeOptions.from_dict(idle)
    assert logits_processors(asked, model.tokenizer, torch.tensor([END]), 19) is None
    for options in (idle, {"no_repeat_ngram_size": 30}, {"bad_words": ["zebra"]}):
        found = hypotheses(model, embeddings, **way, **options)
        expected = hypotheses(model, embeddings, **way)
        for ours, plain in zip(found, expected, strict=True):
            assert [one.token_ids for one in ours] == [one.token_ids for one in plain]


# --- sampling


def test_top_k_samples_from_the_k_most_probable(model: ClipCap, embeddings: torch.Tensor) -> None:
    rows, count = embeddings[:1].expand(300, -1), list(range(300))
    options = {"decoding": "sample", "temperature": 4.0, "max_new_tokens": 1, "seed": count}
    first = logits_along(model, embeddings[0], [END])[0]
    for k in (1, 3):
        seen = {one.token_ids[0] for one in model.generate(rows, top_k=k, **options)}
        assert seen == set(first.topk(k).indices.tolist())
    assert len({one.token_ids[0] for one in model.generate(rows, **options)}) > 3


@pytest.mark.parametrize("options", PROCESSED, ids=str)
def test_top_k_of_one_is_greedy(
    model: ClipCap, embeddings: torch.Tensor, options: dict[str, Any]
) -> None:
    sampled = model.generate(embeddings, decoding="sample", top_k=1, seed=0, **options)
    greedy = model.generate(embeddings, **options)
    assert [one.token_ids for one in sampled] == [one.token_ids for one in greedy]


def test_top_k_is_for_sampling_only(model: ClipCap, embeddings: torch.Tensor) -> None:
    for way in ("greedy", "beam"):
        assert model.generate(embeddings, decoding=way, top_k=1) == model.generate(
            embeddings, decoding=way
        )


# --- beams


def test_wide_beam_of_two_tokens_is_exhaustive(model: ClipCap, embeddings: torch.Tensor) -> None:
    """With as many hypotheses as tokens nothing is pruned at step 1: check against all pairs."""
    size = len(model.tokenizer)
    options = {"min_new_tokens": 1, "repetition_penalty": 3.0, "bad_words_ids": [[CAT], [RED, DOG]]}
    beam = model.beams(embeddings[:1], beam_size=size, max_new_tokens=2, **options)[0]
    first = logits_along(model, embeddings[0], [END])[0].log_softmax(-1)
    every = {}
    for a in set(range(size)) - {END, CAT}:
        second = logits_along(model, embeddings[0], [a, END])[1].log_softmax(-1)
        for b in set(range(size)) - {CAT} - ({DOG} if a == RED else set()):
            every[a, b] = float(first[a] + second[b] * (3.0 if b == a else 1.0)) / 2
    best = sorted(every, key=every.__getitem__, reverse=True)[:size]
    assert [tuple(one.token_ids) for one in beam] == best


def test_beams_return_only_what_is_allowed(model: ClipCap, embeddings: torch.Tensor) -> None:
    rest = [[i] for i in range(len(model.tokenizer)) if i not in (END, CAT, DOG)]
    [beam] = model.beams(embeddings[:1], max_new_tokens=1, bad_words_ids=rest)
    assert {one.token_ids[0] for one in beam} == {END, CAT, DOG}
    rest += [[CAT, CAT], [CAT, DOG]]  # after "cat" only the end
    [beam] = model.beams(embeddings[:1], max_new_tokens=2, beam_size=9, bad_words_ids=rest)
    found = {tuple(one.token_ids) for one in beam}
    assert found == {(END,), (CAT, END), (DOG, END), (DOG, CAT), (DOG, DOG)}


def test_a_sharp_beam_still_finds_unlikely_tokens(
    build: Callable[..., ClipCap], embeddings: torch.Tensor
) -> None:
    """At this temperature float32 rounds all tokens but the likeliest to probability zero."""
    for seed in range(4):
        beams = build(seed).beams(embeddings, temperature=0.003, no_repeat_ngram_size=1)
        for row in beams:
            for one in row:
                check_allowed(one.token_ids, {"no_repeat_ngram_size": 1})


# --- words


@pytest.fixture
def byte_pairs() -> PreTrainedTokenizerFast:
    """A tokenizer that tells " cat" from "cat", as GPT-2's does."""
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    words = ["cat", "dog", "red", "the"]
    texts = [f"{a} {b}" for a in words for b in words]
    trainer = trainers.BpeTrainer(vocab_size=60, special_tokens=["<end>"], show_progress=False)
    backend.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=backend, eos_token="<end>")


def test_bad_words_are_found_at_the_start_and_after_a_space(
    byte_pairs: PreTrainedTokenizerFast, embeddings: torch.Tensor
) -> None:
    config = GPT2Config(
        vocab_size=len(byte_pairs),
        n_positions=40,
        n_embd=16,
        n_layer=1,
        n_head=2,
        initializer_range=0.6,
    )
    torch.manual_seed(0)
    settings = ClipCapConfig(embeddings.shape[1], prefix_length=4)
    model = ClipCap(GPT2LMHeadModel(config), byte_pairs, settings).eval()
    spellings = [byte_pairs(text)["input_ids"] for text in ("cat", " cat", "dog red", " dog red")]
    assert len({tuple(ids) for ids in spellings}) == 4
    rows = embeddings.repeat(60, 1)
    options = {"decoding": "sample", "seed": list(range(300)), "temperature": 2.0}

    def written(**more: object) -> list[bool]:
        texts = model.generate(rows, max_new_tokens=30, **options, **more)
        return [
            any(tuple(ids) in ngrams(one.token_ids, len(ids)) for one in texts) for ids in spellings
        ]

    assert written() == [True, True, True, True]
    assert written(bad_words=["cat", "dog red"]) == [False] * 4
    assert written(bad_words=[" cat "])[:2] == [False, False]
    assert written(bad_words_ids=[spellings[1]])[:2] == [True, False]


# --- ends and starts


def test_end_tokens_of_the_tokenizer_are_left_out(
    build: Callable[..., ClipCap], embeddings: torch.Tensor
) -> None:
    ends = set()
    for seed in range(8):
        model = build(seed, stop="period")
        period = model.stop_id
        for one in model.generate(embeddings, max_new_tokens=30, eos_token_id=[END, period]):
            ends.add(one.token_ids[-1])
            assert "<end>" not in one.text
            assert one.text.endswith(".") == (one.token_ids[-1] == period)
    assert {END, period} <= ends


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["decoding"])
def test_opening_follows_the_models_prompt(
    build: Callable[..., ClipCap], embeddings: torch.Tensor, way: dict
) -> None:
    expected = build(prompt="the red").generate(embeddings, **way)
    assert build().generate(embeddings, caption_start="the red", **way) == expected
    assert build(prompt="the").generate(embeddings, caption_start="red", **way) == expected
    assert build().generate(embeddings, **way) != expected


def test_opening_after_contexts_of_unequal_length(model: ClipCap, embeddings: torch.Tensor) -> None:
    options = DecodeOptions(caption_start="the red", max_new_tokens=8)
    with torch.no_grad():
        context = model.context(embeddings)
    padded = torch.cat((torch.ones_like(context), context), 1)
    mask = torch.arange(padded.shape[1]).expand(len(padded), -1) >= context.shape[1]
    found = model._write(padded, options, mask)
    expected = model.generate(embeddings, caption_start="the red", max_new_tokens=8)
    for one, alone in zip(found, expected, strict=True):
        assert one.token_ids == alone.token_ids
        assert one.token_logprobs == pytest.approx(alone.token_logprobs, abs=1e-4)


# --- what can't be done


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way["decoding"])
def test_options_that_leave_nothing(model: ClipCap, embeddings: torch.Tensor, way: dict) -> None:
    words = [[i] for i in range(len(model.tokenizer)) if i != END]
    with pytest.raises(PrefixModelError, match="no token to choose as number 1 of a text") as error:
        model.generate(embeddings, bad_words_ids=words, min_new_tokens=1, **way)
    assert "\n" not in str(error.value)
    with pytest.raises(PrefixModelError, match="no token to choose as number 19 of a text"):
        model.generate(embeddings, no_repeat_ngram_size=1, min_new_tokens=19, **way)
    assert model.generate(embeddings, no_repeat_ngram_size=1, min_new_tokens=18, **way)
