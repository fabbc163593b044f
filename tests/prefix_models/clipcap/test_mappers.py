import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import regionlm
from prefix_models import (
    ClipCap,
    ClipCapConfig,
    LinearMapper,
    MLPMapper,
    PrefixModelError,
    TransformerMapper,
)
from prefix_models.clipcap.mappers import MAPPERS, build_mapper

TRANSFORMER = {"mapper": "transformer", "clip_length": 3, "mapper_layers": 2}


def torchs_own(mapper: TransformerMapper) -> nn.TransformerEncoder:
    """The same layers as PyTorch builds them, with the weights of `mapper`."""
    one = mapper.layers[0]
    layer = nn.TransformerEncoderLayer(
        mapper.hidden_size,
        one.heads,
        one.inner.out_features,
        dropout=0.0,
        batch_first=True,
        norm_first=True,
        dtype=torch.float64,
    )
    encoder = nn.TransformerEncoder(layer, len(mapper.layers), enable_nested_tensor=False)
    for ours, theirs in zip(mapper.layers, encoder.layers, strict=True):
        theirs.self_attn.in_proj_weight.data = torch.cat(
            (ours.queries.weight, ours.keys_values.weight)
        )
        theirs.self_attn.in_proj_bias.data.zero_()
        for source, target in (
            (ours.attended, theirs.self_attn.out_proj),
            (ours.attention_norm, theirs.norm1),
            (ours.feed_norm, theirs.norm2),
            (ours.inner, theirs.linear1),
            (ours.outer, theirs.linear2),
        ):
            target.load_state_dict(source.state_dict())
    return encoder.train()  # eval would take another kernel


@torch.no_grad()
@settings(max_examples=25, deadline=None)
@given(
    prefix=st.integers(1, 5),
    clip=st.none() | st.integers(1, 4),
    heads=st.sampled_from([1, 2, 4]),
    layers=st.integers(1, 3),
    rows=st.integers(1, 3),
)
def test_transformer_is_torchs_encoder_read_at_the_constants(
    prefix: int, clip: int | None, heads: int, layers: int, rows: int
) -> None:
    mapper = TransformerMapper(
        6, prefix, 8, clip_length=clip, layers=layers, heads=heads, width=5
    ).double()
    draw = torch.Generator().manual_seed(0)
    for parameter in mapper.parameters():
        nn.init.normal_(parameter, std=0.5, generator=draw)
    x = torch.randn(rows, 6, dtype=torch.float64, generator=draw)
    tokens = (x @ mapper.tokens.weight.T + mapper.tokens.bias).reshape(rows, clip or prefix, 8)
    both = torch.cat((tokens, mapper.constants.expand(rows, prefix, 8)), 1)
    expected = torchs_own(mapper)(both)[:, (clip or prefix) :]
    torch.testing.assert_close(mapper(x), expected)


def test_linear_mapper_is_affine() -> None:
    mapper, x = LinearMapper(6, 3, 4), torch.randn(2, 6)
    expected = torch.einsum("md,phd->mph", x, mapper.map.weight.view(3, 4, 6))
    torch.testing.assert_close(mapper(x), expected + mapper.map.bias.view(3, 4))


def test_published_sizes() -> None:
    """Numbers of parameters of the released files: RN50x4 transformer, ViT-B/32 MLP."""

    def millions(config: ClipCapConfig) -> float:
        with torch.device("meta"):
            mapper = build_mapper(config, 768)
        return round(sum(parameter.numel() for parameter in mapper.parameters()) / 1e6, 2)

    assert millions(ClipCapConfig(640, 40, mapper="transformer")) == 57.52
    assert millions(ClipCapConfig(512, 10)) == 31.47


@pytest.mark.parametrize("kind", sorted(MAPPERS))
def test_any_mapper_drives_a_model(
    build: Callable[..., ClipCap], embeddings: torch.Tensor, tmp_path: Path, kind: str
) -> None:
    model = build(mapper=kind)
    assert model.prefix(embeddings).shape == (5, 4, 16)
    assert model.prefix(embeddings[:0]).shape == (0, 4, 16)
    torch.testing.assert_close(
        model.prefix(embeddings)[2:3], model.prefix(embeddings[2:3]), atol=1e-5, rtol=1e-5
    )
    model.lm.requires_grad_(False)
    model.loss(embeddings[:2], ["a red cat", "the owl"]).backward()
    # A published key bias would get none: softmax does not see it. There is none here.
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in model.mapper.parameters())
    model.save_pretrained(tmp_path / "m")
    again = ClipCap.from_pretrained(tmp_path / "m")
    assert again.config == model.config
    # Weights read from a file lie elsewhere in memory, where some kernels round differently.
    for read, kept in zip(again.generate(embeddings), model.generate(embeddings), strict=True):
        assert read.token_ids == kept.token_ids
        assert read.token_logprobs == pytest.approx(kept.token_logprobs, abs=1e-5)
    for dtype in (torch.float64, torch.bfloat16):
        assert model.to(dtype).prefix(embeddings).dtype == dtype


def test_settings_reach_the_transformer(build: Callable[..., ClipCap]) -> None:
    mapper = build(**TRANSFORMER, mapper_heads=4, mapper_width=5).mapper
    assert isinstance(mapper, TransformerMapper)
    assert mapper.tokens.weight.shape == (3 * 16, 12) and mapper.constants.shape == (4, 16)
    assert len(mapper.layers) == 2 and {layer.heads for layer in mapper.layers} == {4}
    assert mapper.layers[1].inner.weight.shape == (5, 16)
    published = build(mapper="transformer").mapper
    assert published.tokens.weight.shape == (4 * 16, 12)
    assert len(published.layers) == 8 and published.layers[0].heads == 8
    assert published.layers[0].inner.weight.shape == (32, 16)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mapper": "transformer", "mapper_heads": 3}, "width 16 .* cannot have 3 heads"),
        ({"mapper": "mlp", "clip_length": 4}, "clip_length is not a setting of the 'mlp' mapper"),
        (
            {"mapper": "linear", "mapper_width": 4},
            "mapper_width is not .* 'linear' mapper, found 4",
        ),
        ({"mapper": "mlp", "mapper_heads": 8}, "mapper_heads is not a setting of the 'mlp'"),
        ({"mapper": "transformer", "mapper_layers": 0}, "mapper_layers: expected an integer >= 1"),
        ({"mapper": "transformer", "clip_length": 2.0}, "clip_length: expected .* found 2.0"),
        ({"mapper": "perceiver"}, r"unknown mapper 'perceiver'; this version has \['linear', 'mlp"),
    ],
)
def test_bad_settings(build: Callable[..., ClipCap], settings: dict, message: str) -> None:
    with pytest.raises(PrefixModelError, match=message):
        build(**settings)


def test_settings_saved_before_there_were_other_mappers() -> None:
    file = Path(regionlm.__file__).parent / "bundles/mini/prefix_model/config.json"
    saved = json.loads(file.read_text())["clipcap"]
    config = ClipCapConfig.from_dict(saved)
    assert isinstance(build_mapper(config, 64), MLPMapper)
    assert config.to_dict() == saved  # and older versions can read what is saved now
