"""Mappers: one embedding -> the prefix vectors of a language model."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from prefix_models.clipcap.config import ClipCapConfig
from prefix_models.errors import PrefixModelError

# The transformer's; its weights do not tell the number of heads.
PUBLISHED_LAYERS, PUBLISHED_HEADS = 8, 8


class MLPMapper(nn.Module):
    """Linear - Tanh - Linear, the MLP of ClipCap (Mokady et al. 2021, section 3.2).

    Args:
        embedding_dim: width d of the input.
        prefix_length: number P of output vectors.
        hidden_size: width of the language model.
        width: hidden width; None means the published choice, P * hidden_size // 2.
    """

    def __init__(
        self, embedding_dim: int, prefix_length: int, hidden_size: int, width: int | None = None
    ) -> None:
        super().__init__()
        self.prefix_length = prefix_length
        self.hidden_size = hidden_size
        width = width or prefix_length * hidden_size // 2
        self.inner = nn.Linear(embedding_dim, width)
        self.outer = nn.Linear(width, prefix_length * hidden_size)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map [M, d] to [M, P, hidden]."""
        prefix: Tensor = self.outer(torch.tanh(self.inner(embeddings)))
        return prefix.view(-1, self.prefix_length, self.hidden_size)


class LinearMapper(nn.Module):
    """One affine map, as the published predict.py uses for prefixes of more than 10 vectors.

    Args:
        embedding_dim: width d of the input.
        prefix_length: number P of output vectors.
        hidden_size: width of the language model.
    """

    def __init__(self, embedding_dim: int, prefix_length: int, hidden_size: int) -> None:
        super().__init__()
        self.prefix_length = prefix_length
        self.hidden_size = hidden_size
        self.map = nn.Linear(embedding_dim, prefix_length * hidden_size)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map [M, d] to [M, P, hidden]."""
        prefix: Tensor = self.map(embeddings)
        return prefix.view(-1, self.prefix_length, self.hidden_size)


class TransformerMapper(nn.Module):
    """The transformer of ClipCap (Mokady et al. 2021, section 3.3), designed for a frozen GPT-2.

    The embedding becomes `clip_length` tokens of the language model's width. These and P learned
    constants attend to each other without a mask; the outputs of the constants are the prefix.
    Pre-norm layers without a final norm; ReLU; no dropout.

    Args:
        embedding_dim: width d of the input.
        prefix_length: number P of output vectors.
        hidden_size: width of the language model.
        clip_length: tokens made from the embedding; None means P, as in both published settings.
        layers, heads: numbers of layers and of attention heads.
        width: of the MLPs; None means the published choice, 2 * hidden_size.

    Raises:
        PrefixModelError: hidden_size is not a multiple of heads.
    """

    def __init__(
        self,
        embedding_dim: int,
        prefix_length: int,
        hidden_size: int,
        *,
        clip_length: int | None = None,
        layers: int = PUBLISHED_LAYERS,
        heads: int = PUBLISHED_HEADS,
        width: int | None = None,
    ) -> None:
        super().__init__()
        if hidden_size % heads:
            raise PrefixModelError(
                f"a transformer mapper of width {hidden_size} (the language model's) cannot have "
                f"{heads} heads; choose mapper_heads that divide it"
            )
        self.prefix_length = prefix_length
        self.hidden_size = hidden_size
        self.tokens = nn.Linear(embedding_dim, (clip_length or prefix_length) * hidden_size)
        self.constants = nn.Parameter(torch.randn(prefix_length, hidden_size))
        self.layers = nn.ModuleList(
            _TransformerLayer(hidden_size, heads, width or 2 * hidden_size) for _ in range(layers)
        )

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map [M, d] to [M, P, hidden]."""
        tokens = self.tokens(embeddings).unflatten(-1, (-1, self.hidden_size))
        tokens = torch.cat((tokens, self.constants.expand(len(tokens), -1, -1)), dim=1)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens[:, -self.prefix_length :]


class _TransformerLayer(nn.Module):
    """Unmasked self-attention, then an MLP: [M, T, hidden] -> [M, T, hidden]."""

    def __init__(self, hidden_size: int, heads: int, width: int) -> None:
        super().__init__()
        self.heads = heads
        self.attention_norm = nn.LayerNorm(hidden_size)
        self.queries = nn.Linear(hidden_size, hidden_size, bias=False)
        self.keys_values = nn.Linear(hidden_size, 2 * hidden_size, bias=False)
        self.attended = nn.Linear(hidden_size, hidden_size)
        self.feed_norm = nn.LayerNorm(hidden_size)
        self.inner = nn.Linear(hidden_size, width)
        self.outer = nn.Linear(width, hidden_size)

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens + self._attend(self.attention_norm(tokens))
        fed: Tensor = self.outer(F.relu(self.inner(self.feed_norm(tokens))))
        return tokens + fed

    def _attend(self, tokens: Tensor) -> Tensor:
        keys, values = self.keys_values(tokens).chunk(2, dim=-1)
        heads = [
            part.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [M, heads, T, hidden / heads]
            for part in (self.queries(tokens), keys, values)
        ]
        mixed = F.scaled_dot_product_attention(*heads).transpose(1, 2).flatten(2)
        attended: Tensor = self.attended(mixed)
        return attended


def _mlp(config: ClipCapConfig, hidden_size: int) -> nn.Module:
    _refuse(config, "clip_length", "mapper_layers", "mapper_heads")
    return MLPMapper(config.embedding_dim, config.prefix_length, hidden_size, config.mapper_width)


def _linear(config: ClipCapConfig, hidden_size: int) -> nn.Module:
    _refuse(config, "mapper_width", "clip_length", "mapper_layers", "mapper_heads")
    return LinearMapper(config.embedding_dim, config.prefix_length, hidden_size)


def _transformer(config: ClipCapConfig, hidden_size: int) -> nn.Module:
    return TransformerMapper(
        config.embedding_dim,
        config.prefix_length,
        hidden_size,
        clip_length=config.clip_length,
        layers=config.mapper_layers or PUBLISHED_LAYERS,
        heads=config.mapper_heads or PUBLISHED_HEADS,
        width=config.mapper_width,
    )


def _refuse(config: ClipCapConfig, *names: str) -> None:
    """Raise if there is a setting that this kind of mapper does not use."""
    for name in names:
        if getattr(config, name) is not None:
            raise PrefixModelError(
                f"{name} is not a setting of the {config.mapper!r} mapper, found "
                f"{getattr(config, name)}; leave it out or choose another mapper"
            )


# To add a kind, write a module [M, d] -> [M, P, hidden] and add a line here.
MAPPERS: dict[str, Callable[[ClipCapConfig, int], nn.Module]] = {
    "linear": _linear,
    "mlp": _mlp,
    "transformer": _transformer,
}


def build_mapper(config: ClipCapConfig, hidden_size: int) -> nn.Module:
    """Build an untrained mapper [M, d] -> [M, P, hidden_size] of the kind `config.mapper`."""
    if config.mapper not in MAPPERS:
        raise PrefixModelError(
            f"unknown mapper {config.mapper!r}; this version has {sorted(MAPPERS)}"
        )
    return MAPPERS[config.mapper](config, hidden_size)
