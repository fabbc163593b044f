"""What every prefix model must do, whatever its mapper, its prompt and its language model."""

import json
import math
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load, save_file

from prefix_models import PrefixModel, PrefixModelError, load_prefix_model, word_tokenizer

from .kinds import DIM, KINDS, WORDS, causal_lm, make

TEXTS = ["a red cat", "the owl on snow, with a dog", "."]


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(kind: str) -> PrefixModel:
    return make(kind)


@pytest.fixture
def embeddings() -> torch.Tensor:
    return 3 * torch.randn(5, DIM, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def saved(kind: str, tmp_path: Path) -> Path:
    make(kind, encoder="ViT-X/ours").save_pretrained(tmp_path / "m")
    return tmp_path / "m"


def weights_file(folder: Path) -> Path:
    """The mapper's own."""
    (found,) = [*folder.glob("mappers/*.safetensors"), *folder.glob("projector.safetensors")]
    return found


def refused(folder: Path, message: str) -> None:
    with pytest.raises(PrefixModelError, match=message) as error:
        load_prefix_model(folder)
    assert "\n" not in str(error.value)


@torch.no_grad()
def scores(model: PrefixModel, embedding: torch.Tensor, ids: list[int]) -> torch.Tensor:
    """Of the token after `ids`: one row, all positions anew, no cache, no padding."""
    inputs = model.context(embedding[None])
    if ids:
        words = model.lm.get_input_embeddings()(torch.tensor([ids]))
        inputs = torch.cat((inputs, words), dim=1)
    return model.lm.eval()(inputs_embeds=inputs, use_cache=False).logits[0, -1].log_softmax(-1)


# --- loss


def test_loss_is_the_mean_cross_entropy_of_the_texts_tokens(
    model: PrefixModel, embeddings: torch.Tensor
) -> None:
    terms = []
    for embedding, text in zip(embeddings, TEXTS, strict=False):
        ids = [*model.tokenizer(text)["input_ids"], model.tokenizer.eos_token_id]
        terms += [-float(scores(model, embedding, ids[:i])[ids[i]]) for i in range(len(ids))]
    loss = model.loss(embeddings[:3], TEXTS)
    assert loss.shape == () and loss.item() == pytest.approx(sum(terms) / len(terms), abs=1e-4)


def test_gradients_reach_all_of_the_mapper_and_leave_flags_alone(
    model: PrefixModel, embeddings: torch.Tensor
) -> None:
    flags = {name: value.requires_grad for name, value in model.named_parameters()}
    model.loss(embeddings[:3], TEXTS).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.mapper.parameters())
    assert {name: value.requires_grad for name, value in model.named_parameters()} == flags
    for value in model.lm.parameters():  # frozen (or adapted) by its owner's flags only
        assert value.requires_grad or value.grad is None


def test_training_the_mapper_alone_learns_texts(kind: str, embeddings: torch.Tensor) -> None:
    model = make(kind)
    before = {name: value.clone() for name, value in model.lm.state_dict().items()}
    optimizer = torch.optim.Adam(model.mapper.parameters(), lr=2e-2)
    losses = []
    for _ in range(60):
        optimizer.zero_grad()
        loss = model.loss(embeddings[:2], TEXTS[:2])
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]
    assert all(torch.equal(value, before[name]) for name, value in model.lm.state_dict().items())


# --- generation


def test_greedy_is_argmax_with_the_models_own_log_probabilities(
    model: PrefixModel, embeddings: torch.Tensor
) -> None:
    known = len(model.tokenizer)
    for embedding, found in zip(
        embeddings, model.generate(embeddings, max_new_tokens=9), strict=True
    ):
        assert len(found.token_ids) == len(found.token_logprobs) <= 9
        for i, (token, logprob) in enumerate(
            zip(found.token_ids, found.token_logprobs, strict=True)
        ):
            expected = scores(model, embedding, found.token_ids[:i])
            assert token == int(expected[:known].argmax())
            assert logprob == pytest.approx(float(expected[token]), abs=1e-4)
        assert found.logprob == pytest.approx(math.fsum(found.token_logprobs))
        assert found.text == model.decode(found.token_ids) and "<" not in found.text


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"decoding": "beam", "beam_size": 3},
        {"decoding": "sample", "seed": 5, "temperature": 1.5},
        {"min_new_tokens": 4, "no_repeat_ngram_size": 2, "caption_start": "the"},
    ],
    ids=["greedy", "beam", "sample", "processors"],
)
def test_a_text_does_not_depend_on_its_batch(
    model: PrefixModel, embeddings: torch.Tensor, options: dict
) -> None:
    together = model.generate(embeddings, max_new_tokens=9, **options)
    for row, one in zip(embeddings, together, strict=True):
        (alone,) = model.generate(row[None], max_new_tokens=9, **options)
        assert (alone.text, alone.token_ids) == (one.text, one.token_ids)
        assert alone.token_logprobs == pytest.approx(one.token_logprobs, abs=1e-4)
        assert all(token < len(model.tokenizer) for token in one.token_ids)


def test_no_embeddings_no_texts(model: PrefixModel) -> None:
    assert model.generate(torch.zeros(0, DIM)) == []


@pytest.mark.parametrize("options", [{}, {"decoding": "sample", "seed": 3}])
def test_streamed_pieces_are_the_generated_text(
    model: PrefixModel, embeddings: torch.Tensor, options: dict
) -> None:
    options = {"min_new_tokens": 12, "max_new_tokens": 14, **options}
    pieces = list(model.stream(embeddings[:1], **options))
    assert "".join(pieces) == model.generate(embeddings[:1], **options)[0].text
    assert len(pieces) > 1 and all(pieces)


def test_the_caller_s_model_is_left_as_it_was(model: PrefixModel, embeddings: torch.Tensor) -> None:
    model.train()
    lm = model.lm
    state = {name: value.clone() for name, value in lm.state_dict().items()}
    modes = [part.training for part in lm.modules()]
    flags = [value.requires_grad for value in lm.parameters()]
    model.generate(embeddings, max_new_tokens=4)
    model.generate(embeddings, max_new_tokens=4, decoding="beam", beam_size=2)
    list(model.stream(embeddings[:1], max_new_tokens=4))
    model.loss(embeddings[:3], TEXTS)
    assert [part.training for part in lm.modules()] == modes
    assert [value.requires_grad for value in lm.parameters()] == flags
    assert all(torch.equal(value, state[name]) for name, value in lm.state_dict().items())
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in lm.modules())


@pytest.mark.parametrize("guard", [torch.no_grad, torch.inference_mode])
def test_works_without_gradients(
    model: PrefixModel, embeddings: torch.Tensor, guard: Callable
) -> None:
    expected = model.generate(embeddings, max_new_tokens=4)
    with guard():
        assert model.generate(embeddings, max_new_tokens=4) == expected
        assert math.isfinite(model.loss(embeddings[:3], TEXTS))


# --- devices and precisions


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_dtype_moves(
    model: PrefixModel, embeddings: torch.Tensor, tmp_path: Path, dtype: torch.dtype
) -> None:
    single = model.generate(embeddings, max_new_tokens=6)
    moved = model.to(dtype)
    for given in (torch.float64, torch.float32, torch.bfloat16):
        assert len(moved.generate(embeddings.to(given), max_new_tokens=3)) == 5
        assert moved.loss(embeddings[:3].to(given), TEXTS).isfinite()
    if dtype == torch.float64:
        double = moved.generate(embeddings, max_new_tokens=6)
        assert [one.token_ids for one in double] == [one.token_ids for one in single]
    moved.save_pretrained(tmp_path / "m")
    loaded = load_prefix_model(tmp_path / "m")
    assert {value.dtype for value in loaded.parameters()} == {dtype}
    assert {
        v.dtype for v in load_prefix_model(tmp_path / "m", dtype=torch.float32).parameters()
    } == {torch.float32}


def test_a_half_precision_language_model_keeps_a_full_precision_mapper(
    model: PrefixModel, embeddings: torch.Tensor, tmp_path: Path
) -> None:
    for parameter in model.lm.parameters():  # .to() would round rotary frequencies, too
        parameter.data = parameter.data.bfloat16()
    model.loss(embeddings[:3], TEXTS).backward()
    assert {p.grad.dtype for p in model.mapper.parameters()} == {torch.float32}
    model.save_pretrained(tmp_path / "m")
    loaded = load_prefix_model(tmp_path / "m")
    assert {p.dtype for p in loaded.mapper.parameters()} == {torch.float32}
    assert {p.dtype for p in loaded.lm.parameters()} == {torch.bfloat16}
    assert loaded.generate(embeddings) == model.generate(embeddings)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_device_moves(model: PrefixModel, embeddings: torch.Tensor) -> None:
    expected = model.generate(embeddings, max_new_tokens=6)
    moved = model.to("cuda")
    assert moved.device.type == "cuda"
    for given in (embeddings, embeddings.cuda()):
        found = moved.generate(given, max_new_tokens=6)
        assert [one.token_ids for one in found] == [one.token_ids for one in expected]
    assert moved.loss(embeddings[:3], TEXTS).device.type == "cuda"


# --- folders


def test_a_folder_gives_the_same_model_back(
    kind: str, embeddings: torch.Tensor, tmp_path: Path
) -> None:
    model = make(kind, encoder="ViT-X/ours", normalize_input=True)
    model.save_pretrained(tmp_path / "m")
    state = torch.get_rng_state()
    loaded = load_prefix_model(tmp_path / "m")
    assert torch.equal(torch.get_rng_state(), state)
    assert type(loaded) is type(model) and loaded.config == model.config and not loaded.training
    expected, found = model.state_dict(), loaded.state_dict()
    assert expected.keys() == found.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    assert loaded.generate(embeddings) == model.generate(embeddings)
    assert loaded.loss(embeddings[:3], TEXTS) == model.loss(embeddings[:3], TEXTS)
    assert os.listdir(tmp_path) == ["m"]
    assert not [file for file in (tmp_path / "m").rglob("*") if file.suffix in (".bin", ".pt")]


def test_metadata_names_what_the_model_was_trained_with(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (settings,) = [config[name] for name in ("clipcap", "projector") if name in config]
    assert settings["encoder"] == "ViT-X/ours" and settings["embedding_dim"] == DIM
    assert isinstance(settings["normalize_input"], bool) and isinstance(settings["prompt"], str)
    assert config["tokenizer"]["tokens"] == len(WORDS) + 3
    assert len(config["tokenizer"]["sha256"]) == 64
    assert config["language_model"]["hidden_size"] == 16


def test_normalisation_makes_the_norm_irrelevant(kind: str, embeddings: torch.Tensor) -> None:
    normalizing, raw = make(kind, normalize_input=True), make(kind, normalize_input=False)
    same = normalizing.prefix(embeddings)
    torch.testing.assert_close(same, normalizing.prefix(9 * embeddings))
    assert not torch.allclose(raw.prefix(embeddings), raw.prefix(9 * embeddings), atol=1e-2)


def test_embeddings_of_another_width_are_refused_with_both(kind: str) -> None:
    model = make(kind, encoder="ViT-X/ours")
    for call in (model.generate, model.stream, lambda given: model.loss(given, ["a cat"])):
        with pytest.raises(
            PrefixModelError, match=r"\[M, 12\] of ViT-X/ours, found torch.float32 \[1, 20\]"
        ):
            call(torch.zeros(1, 20))


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_embeddings_that_are_not_finite_are_refused(
    model: PrefixModel, embeddings: torch.Tensor, bad: float
) -> None:
    embeddings[1, 3] = bad
    for call in (model.generate, lambda given: model.loss(given, ["a"] * 5)):
        with pytest.raises(PrefixModelError, match=r"finite; NaN or infinity in rows \[1\]"):
            call(embeddings)


def test_texts_must_match_the_embeddings(model: PrefixModel, embeddings: torch.Tensor) -> None:
    with pytest.raises(PrefixModelError, match="one text for each of 2 embeddings, found 3"):
        model.loss(embeddings[:2], TEXTS)
    with pytest.raises(PrefixModelError, match=r"1 to \d+ tokens, found 90 in 'cat cat"):
        model.loss(embeddings[:1], ["cat " * 90])


def test_another_tokenizer_is_refused_with_both(saved: Path) -> None:
    word_tokenizer(WORDS[:-1]).save_pretrained(saved / "language_model")
    refused(saved, r"another tokenizer \(tokens 21\) than the one here \(tokens 20\)")
    word_tokenizer(WORDS[::-1]).save_pretrained(saved / "language_model")
    refused(saved, r"tokenizer \(sha256 \w{12}\.{3}\) than the one here \(sha256 \w{12}\.{3}\)")


def test_a_tokenizer_of_more_tokens_than_rows_is_refused_with_both(model: PrefixModel) -> None:
    lm = causal_lm("llama", 10)
    with pytest.raises(PrefixModelError, match="tokenizer knows 21 tokens, the language model 10"):
        type(model)(lm, model.tokenizer, model.config)


def test_another_language_model_is_refused_with_both(saved: Path, kind: str) -> None:
    if "lora" in kind:
        pytest.skip("its adapters do not fit first")
    lm = causal_lm("gpt2", len(WORDS) + 11)
    lm.save_pretrained(saved / "language_model")
    refused(saved, r"language model \((model_type|vocabulary) \w+\) than the one here \(\w+ \w+\)")


def test_another_width_is_refused_with_both(saved: Path) -> None:
    config = json.loads((saved / "config.json").read_text())
    (name,) = [name for name in ("clipcap", "projector") if name in config]
    config[name]["embedding_dim"] = 20
    (saved / "config.json").write_text(json.dumps(config))
    refused(saved, r"has shape \[\d+, 12\], the model's settings need \[\d+, 20\]")


def test_every_missing_file_is_named(saved: Path) -> None:
    needed = [saved / "config.json", weights_file(saved)]
    needed += [saved / "language_model" / name for name in ("config.json", "model.safetensors")]
    needed += [saved / "language_model/tokenizer.json"]
    needed += (saved / "language_model/adapter").glob("adapter_*")
    for file in needed:
        data = file.read_bytes()
        file.unlink()
        refused(saved, f"missing file: .*{file.relative_to(saved)}")
        file.write_bytes(data)
    load_prefix_model(saved)


def test_missing_weights_are_never_random(saved: Path) -> None:
    files = [weights_file(saved), saved / "language_model/model.safetensors"]
    files += (saved / "language_model/adapter").glob("*.safetensors")
    for file in files:
        weights = load(file.read_bytes())  # written over below
        for name in list(weights)[:3]:
            save_file({k: v for k, v in weights.items() if k != name}, file, {"format": "pt"})
            refused(saved, rf"does not fit .*{name}")
        save_file(weights, file, {"format": "pt"})
    load_prefix_model(saved)


def test_truncated_weights_are_refused(saved: Path) -> None:
    for file in saved.rglob("*.safetensors"):
        data = file.read_bytes()
        file.write_bytes(data[: len(data) // 2])
        refused(saved, "damaged or not a safetensors file|cannot read the")
        file.write_bytes(data)


def test_saving_replaces_its_own_kind_only(model: PrefixModel, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos/config.json").write_text('{"format": "regionlm/bundle"}')
    with pytest.raises(PrefixModelError, match="holds something other than a "):
        model.save_pretrained(tmp_path / "photos")
    assert os.listdir(tmp_path / "photos") == ["config.json"]
