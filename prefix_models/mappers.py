"""Mappers: one embedding -> the prefix vectors of a language model."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from prefix_models.config import ClipCapConfig
from prefix_models.errors import PrefixModelError


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


def _mlp(config: ClipCapConfig, hidden_size: int) -> nn.Module:
    return MLPMapper(config.embedding_dim, config.prefix_length, hidden_size, config.mapper_width)


# A new kind is a module [M, d] -> [M, P, hidden] and one line here.
MAPPERS: dict[str, Callable[[ClipCapConfig, int], nn.Module]] = {"mlp": _mlp}


def build_mapper(config: ClipCapConfig, hidden_size: int) -> nn.Module:
    """Build an untrained mapper [M, d] -> [M, P, hidden_size] of the kind `config.mapper` names."""
    if config.mapper not in MAPPERS:
        raise PrefixModelError(
            f"unknown mapper {config.mapper!r}; this version has {sorted(MAPPERS)}"
        )
    return MAPPERS[config.mapper](config, hidden_size)
