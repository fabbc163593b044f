"""The projector model: prompts about several regions, in front of any causal language model."""

import math
import re
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from prefix_models import PrefixModelError, ProjectorConfig, ProjectorModel, word_tokenizer
from tests.prefix_models.kinds import DIM, WORDS, causal_lm, projector

LMS = ["gpt2", "llama", "qwen2"]
PROMPTS = [
    "describe <region>",
    "compare the <region1> with <region2> on snow",
    "<image> the <region2> , <region1> . the red <region2>",
    "a cat on grass",
]


@pytest.fixture(params=LMS)
def model(request: pytest.FixtureRequest) -> ProjectorModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return projector(request.param)


@pytest.fixture
def llama() -> ProjectorModel:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return projector("llama")


def draw(*shape: int, seed: int = 1) -> torch.Tensor:
    return 3 * torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


REGIONS = [draw(1, DIM), draw(2, DIM, seed=2), draw(2, DIM, seed=3), draw(0, DIM)]


def by_hand(
    model: ProjectorModel, prompt: str, regions: torch.Tensor, image: torch.Tensor | None
) -> torch.Tensor:
    """What should stand before an answer, [C, hidden]."""
    text = model.config.template.replace("{prompt}", prompt)
    vectors, plain = [], 0
    for piece in re.split("(<region[0-9]*>|<image>)", text):
        if piece == "<image>":
            vectors.append(model.prefix(image[None])[0])
        elif piece == "<region>":
            vectors.append(model.prefix(regions[plain : plain + 1])[0])
            plain += 1
        elif found := re.fullmatch("<region([0-9]+)>", piece):
            vectors.append(model.prefix(regions[int(found[1]) - 1][None])[0])
        else:
            ids = model.tokenizer(piece, add_special_tokens=False)["input_ids"]
            vectors.append(model.lm.get_input_embeddings()(torch.tensor(ids, dtype=torch.long)))
    return torch.cat(vectors)


# --- the projector


def test_one_token_with_mlp2x_gelu_is_llavas_projector() -> None:
    model = projector("llama", tokens_per_region=1, normalize_input=False)
    layers = torch.nn.Sequential(torch.nn.Linear(DIM, 16), torch.nn.GELU(), torch.nn.Linear(16, 16))
    theirs = dict(zip(layers.state_dict(), model.projector.state_dict().values(), strict=True))
    layers.load_state_dict(theirs)
    torch.testing.assert_close(model.prefix(REGIONS[1])[:, 0], layers(REGIONS[1]))


@pytest.mark.parametrize("kind", ["linear", "mlp2x_gelu"])
def test_every_soft_token_has_its_own_first_layer(kind: str) -> None:
    model = projector("llama", projector=kind, tokens_per_region=5, normalize_input=False)
    state = model.projector.state_dict()
    first, bias = list(state.values())[:2]
    expected = (REGIONS[1] @ first.T + bias).reshape(2, 5, 16)
    if kind == "mlp2x_gelu":
        outer, outer_bias = list(state.values())[2:]
        expected = F.gelu(expected) @ outer.T + outer_bias
    torch.testing.assert_close(model.prefix(REGIONS[1]), expected)


def test_normalised_input_has_the_norm_of_unit_coordinates(llama: ProjectorModel) -> None:
    scaled = llama.scale_input(REGIONS[1])
    torch.testing.assert_close(scaled.norm(dim=1), torch.full((2,), math.sqrt(DIM)))
    torch.testing.assert_close(F.cosine_similarity(scaled, REGIONS[1]), torch.ones(2))
    raw = projector("llama", normalize_input=False)
    assert raw.scale_input(REGIONS[1]) is REGIONS[1]


# --- prompts


def test_generate_is_answer_to_the_models_own_prompt(model: ProjectorModel) -> None:
    embeddings = draw(4, DIM)
    expected = model.answer([model.config.prompt] * 4, list(embeddings[:, None]), max_new_tokens=8)
    assert model.generate(embeddings, max_new_tokens=8) == expected


@torch.no_grad()
def test_embeddings_stand_at_their_placeholders(model: ProjectorModel) -> None:
    images = draw(4, DIM, seed=9)
    for row, prompt in enumerate(PROMPTS):
        given = images[row : row + 1] if "<image>" in prompt else None
        (context,) = model._contexts([prompt], [REGIONS[row]], given)
        torch.testing.assert_close(context, by_hand(model, prompt, REGIONS[row], images[row]))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decoding": "beam", "beam_size": 3},
        {"decoding": "sample", "seed": 4, "temperature": 1.3},
        {"caption_start": "the", "repetition_penalty": 1.5, "min_new_tokens": 3},
    ],
    ids=["greedy", "beam", "sample", "processors"],
)
def test_prompts_of_unequal_length_are_answered_as_one_by_one(
    model: ProjectorModel, options: dict
) -> None:
    rows = [0, 1, 3]
    prompts, regions = [PROMPTS[row] for row in rows], [REGIONS[row] for row in rows]
    together = model.answer(prompts, regions, max_new_tokens=12, **options)
    assert len({tuple(one.token_ids) for one in together}) > 1
    for prompt, own, one in zip(prompts, regions, together, strict=True):
        (alone,) = model.answer([prompt], [own], max_new_tokens=12, **options)
        assert (alone.token_ids, alone.text) == (one.token_ids, one.text)
        assert alone.token_logprobs == pytest.approx(one.token_logprobs, abs=1e-4)


@torch.no_grad()
def test_log_probabilities_are_those_of_a_full_forward(model: ProjectorModel) -> None:
    images = draw(2, DIM, seed=9)
    prompts = [PROMPTS[2], "<image> a bird"]
    for row, one in enumerate(
        model.answer(prompts, [REGIONS[2], REGIONS[3]], images, max_new_tokens=6)
    ):
        context = by_hand(model, prompts[row], [REGIONS[2], REGIONS[3]][row], images[row])
        words = model.lm.get_input_embeddings()(torch.tensor(one.token_ids))
        logits = model.lm(inputs_embeds=torch.cat((context, words))[None]).logits[0]
        logprobs = logits[len(context) - 1 : -1].log_softmax(-1)
        assert one.token_ids == logprobs.argmax(-1).tolist()
        chosen = logprobs.gather(1, torch.tensor(one.token_ids)[:, None])[:, 0]
        assert one.token_logprobs == pytest.approx(chosen.tolist(), abs=1e-4)


@torch.no_grad()
def test_the_order_of_regions_matters(llama: ProjectorModel) -> None:
    prompt = "compare <region1> with <region2>"
    one, other = llama.answer([prompt] * 2, [REGIONS[1], REGIONS[1].flip(0)], max_new_tokens=8)
    swapped, _ = llama.answer(
        ["compare <region2> with <region1>", PROMPTS[0]],
        [REGIONS[1].flip(0), REGIONS[0]],
        max_new_tokens=8,
    )
    assert one.token_ids == swapped.token_ids != other.token_ids


def test_streamed_answer(llama: ProjectorModel) -> None:
    options = {"min_new_tokens": 9, "max_new_tokens": 12}
    image = draw(DIM, seed=9)
    (whole,) = llama.answer([PROMPTS[2]], [REGIONS[2]], image[None], **options)
    pieces = list(llama.stream_answer(PROMPTS[2], REGIONS[2], image, **options))
    assert "".join(pieces) == whole.text and len(pieces) > 1
    with pytest.raises(PrefixModelError, match="beam search knows its text only at the end"):
        llama.stream_answer(PROMPTS[0], REGIONS[0], decoding="beam")


def test_no_prompts(llama: ProjectorModel) -> None:
    assert llama.answer([], []) == []


@torch.no_grad()
def test_answer_loss_is_over_the_answers_tokens(model: ProjectorModel) -> None:
    answers = ["a red cat", "the owl , the bird on snow .", "dog"]
    prompts, regions = PROMPTS[:2] + PROMPTS[3:], REGIONS[:2] + REGIONS[3:]
    terms = []
    for prompt, own, answer in zip(prompts, regions, answers, strict=True):
        ids = model.tokenizer(answer)["input_ids"] + [model.tokenizer.eos_token_id]
        context = by_hand(model, prompt, own, None)
        words = model.lm.get_input_embeddings()(torch.tensor(ids))
        logits = model.lm(inputs_embeds=torch.cat((context, words))[None]).logits[0]
        logprobs = logits[len(context) - 1 : -1].log_softmax(-1)
        terms += (-logprobs.gather(1, torch.tensor(ids)[:, None])).flatten().tolist()
    loss = model.answer_loss(prompts, regions, answers)
    assert loss.item() == pytest.approx(sum(terms) / len(terms), abs=1e-4)
    same = model.answer_loss([model.config.prompt] * 2, list(REGIONS[1][:, None]), ["a", "a cat"])
    assert same.item() == pytest.approx(model.loss(REGIONS[1], ["a", "a cat"]).item(), abs=1e-5)


def test_answer_loss_reaches_the_projector_only(model: ProjectorModel) -> None:
    model.lm.requires_grad_(False)
    model.answer_loss(PROMPTS[:2], REGIONS[:2], ["a cat", "the dog ."]).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.mapper.parameters())
    assert all(p.grad is None for p in model.lm.parameters())


# --- what does not fit


@pytest.mark.parametrize(
    ("prompt", "regions", "image", "message"),
    [
        ("describe it", 1, False, r"placeholders for nothing \(none\), but .* of region 1 were"),
        ("<region>", 0, False, r"placeholders for region 1 \(<region>\), but .* of nothing were"),
        ("<region1>", 2, False, "for region 1 .* of region 1 and region 2 were given"),
        ("<region2>", 1, False, r"for region 2 \(<region2>\), but embeddings of region 1 were"),
        ("<region> <region>", 1, False, "for region 1 and region 2 .* of region 1 were given"),
        ("<image> <region>", 1, False, r"region 1 and the image \(<image>, <region>\)"),
        ("<region>", 1, True, "for region 1 .* of region 1 and the image were given"),
        ("<region> <region1>", 1, False, "either <region> or numbers"),
    ],
)
def test_placeholders_and_embeddings_must_match(
    llama: ProjectorModel, prompt: str, regions: int, image: bool, message: str
) -> None:
    given = ([prompt], [draw(regions, DIM)], draw(1, DIM) if image else None)
    with pytest.raises(PrefixModelError, match=message):
        llama.answer(*given)
    with pytest.raises(PrefixModelError, match=message):
        llama.answer_loss(given[0], given[1], ["a cat"], given[2])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("<region>", [draw(1, DIM)]), "expected a list of prompts"),
        ((["<region>"], draw(1, DIM)), "expected a list of prompts, and a list with each"),
        ((["<region>"] * 2, [draw(1, DIM)]), "regions for each of 2 prompts, found regions for 1"),
        ((["<region>"], [draw(1, DIM)], draw(2, DIM)), "found regions for 1 and embeddings of 2"),
        ((["<region>"], [draw(1, 9)]), r"\[M, 12\], found torch.float32 \[1, 9\]"),
        ((["<region>"], [draw(1, DIM) * math.nan]), "must be finite"),
        ((["<region> " + "a " * 60], [draw(1, DIM)]), "exceed the language model's 64 positions"),
    ],
)
def test_bad_arguments(llama: ProjectorModel, arguments: tuple, message: str) -> None:
    with pytest.raises(PrefixModelError, match=message):
        llama.answer(*arguments)


def test_bad_answers(llama: ProjectorModel) -> None:
    with pytest.raises(PrefixModelError, match="one answer for each of 2 prompts, found 1"):
        llama.answer_loss(PROMPTS[:2], REGIONS[:2], ["a"])
    with pytest.raises(PrefixModelError, match=r"1 to \d+ tokens, found 80"):
        llama.answer_loss(PROMPTS[:1], REGIONS[:1], ["a " * 80])
    with pytest.raises(PrefixModelError, match="max_length: not an option of decoding"):
        llama.answer(PROMPTS[:1], REGIONS[:1], max_length=3)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"embedding_dim": 0}, "embedding_dim: expected an integer >= 1, found 0"),
        ({"tokens_per_region": True}, "tokens_per_region: expected an integer >= 1, found True"),
        ({"normalize_input": 1}, "normalize_input: expected true or false, found 1"),
        ({"encoder": None}, "encoder: expected text, found None"),
        ({"projector": "mlp"}, r"projector: expected linear or mlp2x_gelu, found 'mlp'"),
        ({"prompt": "describe"}, "prompt: expected <region> once and no other placeholder, found"),
        ({"prompt": "<region1> <region2>"}, "prompts about several regions go to"),
        ({"prompt": "<image> <region>"}, "no other placeholder"),
        ({"template": "USER:"}, r"template: expected \{prompt\} once, found 'USER:'"),
        ({"template": "<image> {prompt}"}, "template: expected no placeholders"),
        ({"width": 3}, r"width: not an option of a projector"),
    ],
)
def test_bad_settings(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PrefixModelError, match=message):
        ProjectorConfig.from_dict({"embedding_dim": DIM, **settings})


def test_settings_lack_the_width() -> None:
    with pytest.raises(PrefixModelError, match="embedding_dim: a projector needs it"):
        ProjectorConfig.from_dict({})


def test_the_prompt_must_leave_room() -> None:
    lm, tokenizer = causal_lm("gpt2", len(WORDS) + 3, positions=9), word_tokenizer(WORDS)
    with pytest.raises(
        PrefixModelError, match=r"takes \d+ positions, the language model has 9; there is no room"
    ):
        ProjectorModel(lm, tokenizer, ProjectorConfig(DIM))


def test_the_template_is_kept_in_the_config(llama: ProjectorModel) -> None:
    assert llama.config.template == "USER: {prompt}\nASSISTANT:\n"
    own = projector("llama", template="the {prompt} dog")
    assert own.config.template == "the {prompt} dog"
    assert own.context_length == 1 + 3 + 4 + 1  # the, a region, "Describe this region.", dog
