"""Reading checkpoints in the published layout, made here from tiny random models."""

import logging
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from prefix_models import (
    ClipCap,
    ClipCapConfig,
    PrefixModelError,
    load_original,
    original_state_dict,
    word_tokenizer,
)

MLP = {"mapper_width": 24}
TRANSFORMER = {
    "mapper": "transformer",
    "mapper_width": 24,
    "clip_length": 3,
    "mapper_layers": 2,
    "mapper_heads": 8,
    "normalize_input": True,  # as published for this mapper only
}
KINDS = {"mlp": MLP, "linear": {"mapper": "linear"}, "transformer": TRANSFORMER}


@pytest.fixture
def published(build: Callable[..., ClipCap], request: pytest.FixtureRequest) -> ClipCap:
    """A model as load_original gives it, with an MLP unless a test asks for other mappers."""
    return build(stop="period", **KINDS[getattr(request, "param", "mlp")])


any_kind = pytest.mark.parametrize("published", KINDS, indirect=True)


@pytest.fixture
def weights(published: ClipCap) -> dict[str, torch.Tensor]:
    """State dict as saved under transformers 4: with causal-mask buffers."""
    state = {name: value.clone() for name, value in original_state_dict(published).items()}
    for layer in range(2):
        mask = torch.ones(40, 40, dtype=torch.uint8).tril()[None, None]
        state[f"gpt.transformer.h.{layer}.attn.bias"] = mask
        state[f"gpt.transformer.h.{layer}.attn.masked_bias"] = torch.tensor(-1e4)
    return state


@pytest.fixture
def load(published: ClipCap, tmp_path: Path) -> Callable[[Any], ClipCap]:
    def save_and_load(content: Any) -> ClipCap:
        path = tmp_path / "weights.pt"
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        return load_original(path, published.tokenizer, heads=2)

    return save_and_load


def fails(load: Callable[[Any], ClipCap], content: Any, message: str) -> None:
    with pytest.raises(PrefixModelError, match=message) as error:
        load(content)
    assert "\n" not in str(error.value)


@any_kind
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_round_trip(
    load: Callable[[Any], ClipCap],
    published: ClipCap,
    weights: dict[str, torch.Tensor],
    embeddings: torch.Tensor,
    caplog: pytest.LogCaptureFixture,
    dtype: torch.dtype,
) -> None:
    expected = {name: value.to(dtype).float() for name, value in published.state_dict().items()}
    with caplog.at_level(logging.INFO, logger="prefix_models"):
        loaded = load({
            name: value.to(dtype) if value.is_floating_point() else value
            for name, value in weights.items()
        })  # fmt: skip
    assert "dropped 4 old GPT-2 mask buffers" in caplog.text
    for name, value in loaded.state_dict().items():
        assert torch.equal(value, expected[name]), name
    assert loaded.config == published.config
    assert loaded.lm.config.n_layer == 2 and loaded.lm.config.n_positions == 40
    assert original_state_dict(loaded).keys() == original_state_dict(published).keys()
    if dtype == torch.float32:
        assert loaded.generate(embeddings) == published.generate(embeddings)


def test_key_layout_of_the_published_code(published: ClipCap) -> None:
    names = set(original_state_dict(published))
    assert {name for name in names if not name.startswith("gpt.")} == {
        f"clip_project.model.{i}.{kind}" for i in (0, 2) for kind in ("weight", "bias")
    }
    assert {"gpt.lm_head.weight", "gpt.transformer.wte.weight"} <= names
    assert "gpt.transformer.h.1.attn.c_attn.bias" in names  # not one of the old buffers


@any_kind
def test_export_for_the_versions_that_the_original_pins(
    published: ClipCap, weights: dict[str, torch.Tensor]
) -> None:
    """`weights` has the mask buffers as transformers 4.12 writes them."""
    exported = original_state_dict(published, mask_buffers=True)
    assert exported.keys() == weights.keys()
    for name, value in weights.items():
        assert exported[name].dtype == value.dtype and torch.equal(exported[name], value), name


def test_export_of_what_the_original_lacks(build: Callable[..., ClipCap]) -> None:
    other = build(mapper="transformer", mapper_heads=4)
    with pytest.raises(PrefixModelError, match="has 8 heads, this one 4"):
        original_state_dict(other)
    tokenizer = word_tokenizer(["a"])
    sizes = dict.fromkeys(("hidden_size", "intermediate_size"), 8)
    lm = LlamaForCausalLM(LlamaConfig(vocab_size=4, num_attention_heads=1, **sizes))
    with pytest.raises(PrefixModelError, match=r"has a GPT-2 .* this is 'llama' with 'mlp'"):
        original_state_dict(ClipCap(lm, tokenizer, ClipCapConfig(8)))


@pytest.mark.parametrize("published", ["linear", "transformer"], indirect=True)
def test_what_the_weights_do_not_say(
    published: ClipCap, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(weights, tmp_path / "w.pt")

    def load(**options: Any) -> ClipCapConfig:
        return load_original(tmp_path / "w.pt", published.tokenizer, heads=2, **options).config

    transformer = published.config.mapper == "transformer"
    assert load().normalize_input is transformer and load().encoder == ""
    assert load(normalize_input=not transformer).normalize_input is not transformer
    assert load(encoder="mine").encoder == "mine"
    if transformer:
        assert load(mapper_heads=4).mapper_heads == 4
        with pytest.raises(PrefixModelError, match=r"w\.pt: .* width 16 .* cannot have 3 heads"):
            load(mapper_heads=3)
    else:
        with pytest.raises(PrefixModelError, match="mapper_heads is not a setting of the 'linear'"):
            load(mapper_heads=8)


@pytest.mark.parametrize(
    ("width", "encoder"),
    [(512, "ViT-B-32-quickgelu/openai"), (640, "RN50x4-quickgelu/openai")],
)
def test_encoder_and_heads_as_published(tmp_path: Path, width: int, encoder: str) -> None:
    """The two CLIPs of the original code; GPT-2 of a size with two published heads."""
    tokenizer = word_tokenizer(["a", "."])
    lm = GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), n_embd=128, n_layer=1, n_head=2))
    model = ClipCap(lm, tokenizer, ClipCapConfig(width, 2, mapper="linear", stop="period"))
    torch.save(original_state_dict(model), tmp_path / "w.pt")
    loaded = load_original(tmp_path / "w.pt", tokenizer)
    assert loaded.config.encoder == encoder and loaded.lm.config.n_head == 2


def test_legacy_file_format(
    published: ClipCap, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(weights, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    loaded = load_original(tmp_path / "w.pt", published.tokenizer, heads=2)
    assert torch.equal(loaded.mapper.inner.weight, published.mapper.inner.weight)


def test_code_in_a_pickle_is_not_executed(
    load: Callable[[Any], ClipCap], weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    trap = tmp_path / "executed"

    class Code:
        def __reduce__(self) -> tuple[Any, ...]:
            return (Path.touch, (trap,))

    told = r"objects besides tensors \(such as '.*'\), which could run code; nothing was executed"
    for content in (pickle.dumps(Code()), {**weights, "gpt.x": Code()}, Code()):
        fails(load, content, told)
    for protocol, legacy in [(2, True), (3, False), (4, True), (5, False)]:
        torch.save(
            {**weights, "gpt.x": Code()},
            tmp_path / "code.pt",
            pickle_protocol=protocol,
            _use_new_zipfile_serialization=not legacy,
        )
        fails(load, (tmp_path / "code.pt").read_bytes(), told)
    assert not trap.exists()


def test_a_whole_module_is_told_from_a_damaged_file(load: Callable[[Any], ClipCap]) -> None:
    fails(load, torch.nn.Linear(2, 2), r"such as 'torch\.nn\.modules\.linear\.Linear'")


@pytest.mark.parametrize("legacy", [False, True])
@pytest.mark.parametrize("keep", [0.0, 0.01, 0.5, 0.95])
def test_truncated(
    load: Callable[[Any], ClipCap],
    weights: dict[str, torch.Tensor],
    tmp_path: Path,
    keep: float,
    legacy: bool,
) -> None:
    torch.save(weights, tmp_path / "whole.pt", _use_new_zipfile_serialization=not legacy)
    data = (tmp_path / "whole.pt").read_bytes()
    fails(load, data[: int(keep * len(data))], "is truncated or not a torch checkpoint")


def test_other_files(
    load: Callable[[Any], ClipCap], weights: dict[str, torch.Tensor], published: ClipCap
) -> None:
    fails(load, b"<html>not found</html>", "is truncated or not a torch checkpoint")
    fails(load, [1, 2], "is not a state dict")
    fails(load, {"weights": weights}, "is not a state dict")
    fails(load, {}, r"not a ClipCap checkpoint .* lacks clip_project\.model\.0\.weight")
    with pytest.raises(PrefixModelError, match=r"missing file: nowhere\.pt; download"):
        load_original("nowhere.pt", published.tokenizer)


@pytest.mark.parametrize("key", ["state_dict", "model_state_dict", "model"])
def test_wrappings(
    load: Callable[[Any], ClipCap],
    weights: dict[str, torch.Tensor],
    embeddings: torch.Tensor,
    published: ClipCap,
    key: str,
) -> None:
    wanted = published.generate(embeddings)
    assert load({key: weights, "epoch": 3}).generate(embeddings) == wanted
    parallel = {f"module.{name}": value for name, value in weights.items()}
    for content in (parallel, {key: parallel, "optimizer": {}}):
        assert load(content).generate(embeddings) == wanted


@any_kind
def test_a_mapper_alone_needs_its_language_model(
    load: Callable[[Any], ClipCap],
    weights: dict[str, torch.Tensor],
    published: ClipCap,
    embeddings: torch.Tensor,
    tmp_path: Path,
) -> None:
    alone = {name: value for name, value in weights.items() if not name.startswith("gpt.")}
    fails(load, alone, "holds a mapper without its GPT-2: .* language_model=GPT2LMHeadModel")
    path, lm = tmp_path / "weights.pt", GPT2LMHeadModel(published.lm.config)
    lm.load_state_dict(published.lm.state_dict())
    loaded = load_original(path, published.tokenizer, language_model=lm)
    assert loaded.config == published.config
    assert loaded.generate(embeddings) == published.generate(embeddings)
    with pytest.raises(PrefixModelError, match="found heads, which that model knows itself"):
        load_original(path, published.tokenizer, language_model=lm, heads=2)
    torch.save(weights, path)
    with pytest.raises(PrefixModelError, match=r"found a GPT-2 in the file; leave one"):
        load_original(path, published.tokenizer, language_model=lm)


def test_half_a_mapper(load: Callable[[Any], ClipCap], weights: dict[str, torch.Tensor]) -> None:
    one = {"clip_project.transformer.layers.0.norm1.weight": torch.ones(16)}
    fails(load, {**weights, **one}, "kind 'transformer': it lacks clip_project.prefix_const")
    linear = {name: value for name, value in weights.items() if "clip_project" not in name}
    linear["clip_project.weight"] = torch.zeros(64, 12)
    fails(load, linear, r"kind 'linear': it lacks clip_project\.bias")


LAYERS = "clip_project.transformer.layers"


@pytest.mark.parametrize("published", ["transformer"], indirect=True)
@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"clip_project.prefix_const": (4, 12)}, "makes vectors of width 12, GPT-2's is 16"),
        ({"clip_project.prefix_const": (4,)}, r"constants has shape \[4\], expected 2 dimensions"),
        ({"clip_project.linear.weight": (40, 12)}, "40 outputs are not a multiple of .* 16"),
        ({f"{LAYERS}.1.norm2.bias": (16, 1)}, r"feed_norm\.bias .* expected 1 dimension$"),
        ({f"{LAYERS}.1.mlp.fc1.weight": (23, 16)}, r"layers\.1\.inner\.weight .* need \[24, 16\]"),
        ({f"{LAYERS}.0.attn.to_queries.bias": (16,)}, "unexpected weights, .*to_queries.bias"),
        ({f"{LAYERS}.1.mlp.fc2.bias": None}, r"lacks .*layers\.1\.mlp\.fc2\.bias"),
        # Never as many layers as the highest number says: a file could name 10^9.
        ({f"{LAYERS}.999999999.norm1.bias": (16,)}, r"lacks .*layers\.2\.norm1\.weight"),
        ({"gpt.transformer.h.999999999.ln_1.bias": (16,)}, "missing .*, unexpected .*h.999999999"),
    ],
)
def test_wrong_transformers(
    load: Callable[[Any], ClipCap],
    weights: dict[str, torch.Tensor],
    changes: dict[str, tuple[int, ...] | None],
    message: str,
) -> None:
    for name, shape in changes.items():
        weights[name] = torch.zeros(shape or 1)
        if shape is None:
            del weights[name]
    fails(load, weights, message)


@pytest.mark.parametrize("published", ["transformer"], indirect=True)
def test_a_transformer_without_layers(
    load: Callable[[Any], ClipCap], weights: dict[str, torch.Tensor]
) -> None:
    rest = {name: value for name, value in weights.items() if not name.startswith(LAYERS)}
    fails(load, rest, r"kind 'transformer': it lacks .*layers\.0\.norm1\.weight")


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        (
            "clip_project.model.2.weight",
            (65, 24),
            "65 outputs are not a multiple of GPT-2's width 16",
        ),
        ("clip_project.model.2.bias", (48,), r"outer\.bias has shape \[48\].* need \[64\]"),
        ("clip_project.model.0.weight", (12,), "inner.weight .* .12., expected 2 dimensions"),
        ("gpt.transformer.wpe.weight", (40, 12), r"wpe\.weight has shape \[40, 12\]"),
        ("gpt.transformer.ln_f.weight", (12,), r"ln_f\.weight has shape \[12\].* need \[16\]"),
    ],
)
def test_wrong_sizes(
    load: Callable[[Any], ClipCap],
    weights: dict[str, torch.Tensor],
    name: str,
    shape: tuple[int, ...],
    message: str,
) -> None:
    fails(load, {**weights, name: torch.zeros(shape)}, message)


def test_wrong_names(load: Callable[[Any], ClipCap], weights: dict[str, torch.Tensor]) -> None:
    fails(load, {**weights, "other.weight": torch.ones(1)}, "unexpected weights, .* other.weight")
    fails(load, {**weights, "gpt.odd": torch.ones(1)}, "missing nothing, unexpected odd")
    lacking = dict(weights)
    del lacking["gpt.transformer.h.0.ln_1.bias"]
    fails(load, lacking, r"missing transformer\.h\.0\.ln_1\.bias, unexpected nothing")
    untied = {**weights, "gpt.lm_head.weight": torch.zeros(19, 16)}
    fails(load, untied, "lm_head.weight differs from")


def test_tokenizer_and_heads_must_fit(
    published: ClipCap, weights: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    torch.save(weights, tmp_path / "w.pt")
    with pytest.raises(PrefixModelError, match="width 16 cannot have 0 heads"):
        load_original(tmp_path / "w.pt", published.tokenizer)
    with pytest.raises(PrefixModelError, match="width 16 cannot have 3 heads"):
        load_original(tmp_path / "w.pt", published.tokenizer, heads=3)
    published.tokenizer.add_tokens(["more"])
    with pytest.raises(PrefixModelError, match="tokenizer knows 20 tokens, the language model 19"):
        load_original(tmp_path / "w.pt", published.tokenizer, heads=2)
