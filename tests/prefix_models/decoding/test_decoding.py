import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from prefix_models import ClipCap, PrefixModelError
from prefix_models.decoding import text_pieces
from prefix_models.decoding.sampling import _inverse_cdf

SAME_FIXTURE = settings(
    deadline=None,
    max_examples=25,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@torch.no_grad()
def next_logits(model: ClipCap, embedding: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Scores after a text, by a full pass without cache."""
    inputs = model.context(embedding[None])
    if ids:
        words = model.lm.get_input_embeddings()(torch.tensor([ids]))
        inputs = torch.cat((inputs, words), 1)
    return model.lm(inputs_embeds=inputs, use_cache=False).logits[0, -1]


def greedy_without_cache(model: ClipCap, embedding: torch.Tensor, limit: int) -> list[int]:
    ids: list[int] = []
    while len(ids) < limit and model.stop_id not in ids:
        ids.append(int(next_logits(model, embedding, ids).argmax()))
    return ids


def check_logprobs(model: ClipCap, embedding: torch.Tensor, one: object) -> None:
    for i, (token, logprob) in enumerate(zip(one.token_ids, one.token_logprobs, strict=True)):
        expected = next_logits(model, embedding, one.token_ids[:i]).log_softmax(-1)[token]
        assert logprob == pytest.approx(float(expected), abs=1e-4)
    assert one.logprob == pytest.approx(sum(one.token_logprobs))


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("prompt", ["", "the red"])
def test_greedy_equals_full_recomputation(
    build: Callable[..., ClipCap], embeddings: torch.Tensor, seed: int, prompt: str
) -> None:
    model = build(seed, prompt=prompt)
    texts = model.generate(embeddings, max_new_tokens=20)
    for embedding, one in zip(embeddings, texts, strict=True):
        assert one.token_ids == greedy_without_cache(model, embedding, 20)
        check_logprobs(model, embedding, one)


def test_rows_end_at_different_lengths(
    build: Callable[..., ClipCap], embeddings: torch.Tensor
) -> None:
    """Else the tests here would not see rows leaving the batch."""
    lengths = [
        {len(one.token_ids) for one in build(seed).generate(embeddings, max_new_tokens=20)}
        for seed in range(6)
    ]
    assert max(map(len, lengths)) >= 3


@pytest.mark.parametrize("options", [
    {"decoding": "greedy"},
    {"decoding": "beam", "beam_size": 3},
    {"decoding": "sample", "seed": 3, "temperature": 1.3},
    {"decoding": "sample", "seed": 4, "top_p": 0.7},
])  # fmt: skip
@pytest.mark.parametrize("seed", range(4))
def test_text_does_not_depend_on_the_batch(
    build: Callable[..., ClipCap], embeddings: torch.Tensor, options: dict, seed: int
) -> None:
    model = build(seed)
    together = model.generate(embeddings, **options)
    for i, one in enumerate(together):
        alone = model.generate(embeddings[i : i + 1], **options)[0]
        assert (alone.text, alone.token_ids) == (one.text, one.token_ids)
        assert alone.token_logprobs == pytest.approx(one.token_logprobs, abs=1e-4)
    shuffled = model.generate(embeddings.flip(0), **options)
    assert [one.text for one in shuffled] == [one.text for one in together][::-1]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_beam_logprobs_are_the_models_own(
    model: ClipCap, embeddings: torch.Tensor, temperature: float
) -> None:
    beams = model.beams(embeddings[:2], beam_size=4, max_new_tokens=12, temperature=temperature)
    for embedding, beam in zip(embeddings, beams, strict=False):
        assert len(beam) == 4
        for one in beam:
            check_logprobs(model, embedding, one)
            assert model.stop_id not in one.token_ids[:-1]
    if temperature == 1.0:
        means = [[one.logprob / len(one.token_ids) for one in beam] for beam in beams]
        assert all(mean == sorted(mean, reverse=True) for mean in means)


def test_wide_beam_of_two_tokens_is_exhaustive(model: ClipCap, embeddings: torch.Tensor) -> None:
    """With as many hypotheses as tokens nothing is pruned at step 1: check against all pairs."""
    size = len(model.tokenizer)
    beam = model.beams(embeddings[:1], beam_size=size, max_new_tokens=2)[0]
    first = next_logits(model, embeddings[0], []).log_softmax(-1)
    every = {(model.stop_id,): float(first[model.stop_id])}
    for a in range(size):
        if a != model.stop_id:
            second = next_logits(model, embeddings[0], [a]).log_softmax(-1)
            every |= {(a, b): float(first[a] + second[b]) / 2 for b in range(size)}
    best = sorted(every, key=every.__getitem__, reverse=True)[:size]
    assert [tuple(one.token_ids) for one in beam] == best


def test_beam_of_one_is_greedy(model: ClipCap, embeddings: torch.Tensor) -> None:
    greedy = model.generate(embeddings)
    beam = model.generate(embeddings, decoding="beam", beam_size=1)
    assert [one.token_ids for one in beam] == [one.token_ids for one in greedy]


def test_sampling_is_reproducible_and_random(model: ClipCap, embeddings: torch.Tensor) -> None:
    def sample(seed: object) -> list[str]:
        texts = model.generate(embeddings, decoding="sample", temperature=2.0, seed=seed)
        return [one.text for one in texts]

    assert sample(7) == sample(7)
    assert sample(7) != sample(8)
    assert sample([7, 8, 9, 10, 11])[0] == sample(7)[0]
    assert sample([7, 8, 9, 10, 11])[1] == sample(8)[1]
    torch.manual_seed(0)
    unseeded = sample(None)
    assert unseeded != sample(None)
    torch.manual_seed(0)
    assert unseeded == sample(None)


def test_unseeded_equal_rows_differ(model: ClipCap, embeddings: torch.Tensor) -> None:
    rows = embeddings[:1].expand(8, -1)
    texts = {one.text for one in model.generate(rows, decoding="sample", temperature=2.0)}
    assert len(texts) > 1


def test_longer_limit_only_extends_a_sample(model: ClipCap, embeddings: torch.Tensor) -> None:
    options = {"decoding": "sample", "temperature": 2.0, "seed": 1}
    short = model.generate(embeddings, max_new_tokens=3, **options)
    long = model.generate(embeddings, max_new_tokens=30, **options)
    for a, b in zip(short, long, strict=True):
        assert b.token_ids[:3] == a.token_ids


def test_sampled_frequencies_are_the_models(model: ClipCap, embeddings: torch.Tensor) -> None:
    count = 4000
    rows = embeddings[:1].expand(count, -1)
    texts = model.generate(
        rows, decoding="sample", max_new_tokens=1, seed=list(range(count)), temperature=1.5
    )
    counts = torch.bincount(
        torch.tensor([one.token_ids[0] for one in texts]), minlength=len(model.tokenizer)
    )
    expected = (next_logits(model, embeddings[0], []) / 1.5).softmax(-1)
    assert (counts / count - expected).abs().max() < 0.03  # about 4 standard deviations


@SAME_FIXTURE
@given(
    logits=st.lists(st.floats(-8, 8, width=32), min_size=1, max_size=30),
    top_p=st.floats(0.01, 1.0),
    draw=st.floats(0, 1, exclude_max=True),
)
def test_top_p_keeps_the_smallest_sufficient_set(
    logits: list[float], top_p: float, draw: float
) -> None:
    scores = torch.tensor([logits])
    token = int(_inverse_cdf(scores, top_p, torch.tensor([draw], dtype=torch.float64)))
    mass = scores.double().softmax(-1)[0]
    more_probable = float(mass[mass > mass[token]].sum())
    assert more_probable < top_p + 1e-9


def test_top_p_tiny_is_greedy(model: ClipCap, embeddings: torch.Tensor) -> None:
    sampled = model.generate(embeddings, decoding="sample", top_p=1e-6, seed=0)
    assert [one.text for one in sampled] == [one.text for one in model.generate(embeddings)]


@pytest.mark.parametrize("draw", [0.0, 0.5, 1 - 2**-53])
def test_draws_at_the_ends_pick_possible_tokens(draw: float) -> None:
    logits = torch.tensor([[-math.inf, 0.0, -math.inf, 0.0]])
    token = _inverse_cdf(logits, 1.0, torch.tensor([draw], dtype=torch.float64))
    assert int(token) in (1, 3)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("options", [{}, {"decoding": "sample", "seed": 5, "temperature": 1.5}])
def test_stream_is_generate(
    build: Callable[..., ClipCap], embeddings: torch.Tensor, seed: int, options: dict
) -> None:
    model = build(seed)
    for i in range(len(embeddings)):
        pieces = list(model.stream(embeddings[i : i + 1], **options))
        assert "".join(pieces) == model.generate(embeddings[i : i + 1], **options)[0].text
        assert all(pieces)


def test_stream_comes_in_pieces_while_generating(
    model: ClipCap, embeddings: torch.Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []
    forward = model.lm.forward
    monkeypatch.setattr(model.lm, "forward", lambda *a, **k: steps.append(1) or forward(*a, **k))
    options = {"decoding": "sample", "temperature": 3.0, "max_new_tokens": 30}
    seed = max(
        range(20),
        key=lambda seed: len(model.generate(embeddings[:1], seed=seed, **options)[0].text),
    )
    steps.clear()
    progress = [len(steps) for _ in model.stream(embeddings[:1], seed=seed, **options)]
    assert len(progress) > 5 and progress[0] <= 9 < progress[-1]


@SAME_FIXTURE
@given(
    st.lists(st.sampled_from([" a", "b", " .", " ,", " n", "'t", " ", "  c", "\n"]), max_size=12)
)
def test_pieces_survive_tidied_punctuation(parts: list[str]) -> None:
    def decode(ids: list[int]) -> str:
        text = "".join(parts[i] for i in ids)
        for mark in (" .", " ,", " n't"):
            text = text.replace(mark, mark[1:])
        return text

    assert "".join(text_pieces(range(len(parts)), decode)) == decode(list(range(len(parts))))


def test_period_ends_and_stays(build: Callable[..., ClipCap], embeddings: torch.Tensor) -> None:
    ended = 0
    for seed in range(8):
        model = build(seed, stop="period")
        for one in model.generate(embeddings, max_new_tokens=30):
            assert "." not in one.text[:-1]
            ended += one.text.endswith(".")
    assert ended


def test_end_token_ends_and_is_dropped(
    build: Callable[..., ClipCap], embeddings: torch.Tensor
) -> None:
    ended = 0
    for seed in range(8):
        model = build(seed)
        for one in model.generate(embeddings, max_new_tokens=30):
            assert "<" not in one.text
            assert model.stop_id not in one.token_ids[:-1]
            ended += one.token_ids[-1] == model.stop_id
    assert ended


def test_decoding_leaves_flags_gradients_and_rng_alone(
    model: ClipCap, embeddings: torch.Tensor
) -> None:
    expected = model.generate(embeddings)
    model.train()
    model.lm.transformer.ln_f.eval()
    flags = [module.training for module in model.modules()]
    needed = [parameter.requires_grad for parameter in model.parameters()]
    state = torch.get_rng_state()
    inputs = embeddings.clone().requires_grad_()
    assert model.generate(inputs) == expected  # no dropout, though in train mode
    model.generate(inputs, decoding="sample", seed=0)
    for _ in model.stream(inputs[:1]):
        assert torch.is_grad_enabled()
        assert [module.training for module in model.modules()] == flags
    assert [module.training for module in model.modules()] == flags
    assert [parameter.requires_grad for parameter in model.parameters()] == needed
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_works_in_every_gradient_mode(
    model: ClipCap, embeddings: torch.Tensor, mode: Callable
) -> None:
    expected = model.generate(embeddings)
    with mode():
        assert model.generate(embeddings) == expected
        assert "".join(model.stream(embeddings[:1])) == expected[0].text
        model.generate(embeddings, decoding="beam")
    model.loss(embeddings, ["a cat"] * 5).backward()  # nothing was turned into inference tensors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_dtypes(model: ClipCap, embeddings: torch.Tensor, dtype: torch.dtype) -> None:
    model = model.to(dtype)
    for decoding, one in itertools.product(("greedy", "beam", "sample"), range(2)):
        assert len(model.generate(embeddings[: one + 1], decoding=decoding)) == one + 1
    assert model.loss(embeddings, ["a cat"] * 5).isfinite()


def test_no_embeddings_no_texts(model: ClipCap) -> None:
    nothing = torch.zeros(0, 12)
    for decoding in ("greedy", "beam", "sample"):
        assert model.generate(nothing, decoding=decoding) == []


def test_default_length_is_what_fits(
    build: Callable[..., ClipCap], embeddings: torch.Tensor
) -> None:
    model = build(positions=9)
    assert model.room == 5
    longest = max(len(one.token_ids) for one in model.generate(embeddings))
    assert longest <= 5
    assert max(len(t.token_ids) for t in model.generate(embeddings, max_new_tokens=5)) <= 5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"decoding": "magic"}, r"decoding: expected one of greedy, beam.* found 'magic'"),
        ({"max_new_tokens": 0}, "max_new_tokens: expected an integer >= 1, found 0"),
        ({"max_new_tokens": 2.5}, r"max_new_tokens: expected an integer >= 1, found 2\.5"),
        ({"max_new_tokens": 37}, r"4 positions .* 37 new tokens exceed .* 40 .* at most 36 new"),
        ({"decoding": "beam", "beam_size": 0}, "beam_size: expected an integer >= 1, found 0"),
        ({"decoding": "beam", "beam_size": 99}, "at most the vocabulary's 19 tokens, found 99"),
        (
            {"temperature": -1.0},
            r"temperature: expected a number from 1e-06 to 1000000, found -1\.0",
        ),
        ({"temperature": 0.0}, "temperature: expected a number from 1e-06 .*decoding='greedy'"),
        (
            {"temperature": math.nan},
            "temperature: expected a number from 1e-06 to 1000000, found nan",
        ),
        (
            {"temperature": 1e-300},
            "temperature: expected a number from 1e-06 to 1000000, found 1e-300",
        ),
        ({"temperature": "hot"}, "temperature: expected a number from .* found 'hot'"),
        ({"top_p": 0.0}, r"top_p: expected a number > 0 and <= 1, found 0\.0"),
        ({"top_p": 1.5}, r"top_p: expected a number > 0 and <= 1, found 1\.5"),
        ({"decoding": "sample", "seed": -1}, "seed: expected an integer from 0 to .* found -1"),
        ({"decoding": "sample", "seed": "x"}, "seed: expected an integer from 0 to .* found 'x'"),
        ({"decoding": "sample", "seed": [1, 2]}, "one for each embedding, found 2 for 5"),
    ],
)
def test_bad_options(model: ClipCap, embeddings: torch.Tensor, options: dict, message: str) -> None:
    with pytest.raises(PrefixModelError, match=message) as error:
        model.generate(embeddings, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("decoding", ["greedy", "beam", "sample"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_embeddings_must_be_finite(
    model: ClipCap, embeddings: torch.Tensor, decoding: str, value: float
) -> None:
    embeddings[3, 2] = value
    with pytest.raises(PrefixModelError, match=r"NaN or infinity in rows \[3\]"):
        model.generate(embeddings, decoding=decoding)


@pytest.mark.parametrize(
    ("bad", "found"),
    [
        (torch.zeros(2, 7), r"torch\.float32 \[2, 7\]"),
        (torch.zeros(12), r"torch\.float32 \[12\]"),
        (torch.zeros(2, 12, dtype=torch.long), r"torch\.int64 \[2, 12\]"),
        ([[0.0] * 12], "list"),
    ],
)
def test_embeddings_must_have_the_shape(model: ClipCap, bad: object, found: str) -> None:
    for call in (model.generate, model.beams, model.stream, model.prefix):
        with pytest.raises(PrefixModelError, match=rf"embeddings \[M, 12\], found {found}"):
            call(bad)


def test_stream_refuses_at_the_call(model: ClipCap, embeddings: torch.Tensor) -> None:
    with pytest.raises(PrefixModelError, match="knows its text only at the end"):
        model.stream(embeddings[:1], decoding="beam")
    with pytest.raises(PrefixModelError, match="takes one embedding, found 5"):
        model.stream(embeddings)
