"""Projectors: one embedding of the joint space -> soft tokens of a language model."""

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor, nn


class LinearProjector(nn.Module):
    """One affine map, as in LLaVA (Liu et al. 2023, equation 1).

    Args:
        embedding_dim: width d of the input.
        tokens: number K of soft tokens for each embedding.
        hidden_size: width of the language model.
    """

    def __init__(self, embedding_dim: int, tokens: int, hidden_size: int) -> None:
        super().__init__()
        self.tokens, self.hidden_size = tokens, hidden_size
        self.map = nn.Linear(embedding_dim, tokens * hidden_size)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map [M, d] to [M, K, hidden]."""
        mapped: Tensor = self.map(embeddings)
        return mapped.view(len(embeddings), self.tokens, self.hidden_size)


class MLPProjector(nn.Module):
    """Linear - GELU - Linear, the mlp2x_gelu of LLaVA-1.5 (Liu et al. 2024, section 3.3).

    LLaVA maps each patch to one token. Here an embedding describes a whole region, so the first
    layer makes K tokens of it, which share the second layer. With K = 1 it is LLaVA's projector.

    Args:
        embedding_dim: width d of the input.
        tokens: number K of soft tokens for each embedding.
        hidden_size: width of the language model.
    """

    def __init__(self, embedding_dim: int, tokens: int, hidden_size: int) -> None:
        super().__init__()
        self.tokens, self.hidden_size = tokens, hidden_size
        self.inner = nn.Linear(embedding_dim, tokens * hidden_size)
        self.outer = nn.Linear(hidden_size, hidden_size)

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map [M, d] to [M, K, hidden]."""
        inner = self.inner(embeddings).view(len(embeddings), self.tokens, self.hidden_size)
        mapped: Tensor = self.outer(F.gelu(inner))
        return mapped


# To add a kind, write a module [M, d] -> [M, K, hidden] and add a line here.
PROJECTORS: dict[str, Callable[[int, int, int], nn.Module]] = {
    "linear": LinearProjector,
    "mlp2x_gelu": MLPProjector,
}


def build_projector(kind: str, embedding_dim: int, tokens: int, hidden_size: int) -> nn.Module:
    """Build an untrained projector [M, d] -> [M, K, hidden_size]; `kind` is a key of PROJECTORS."""
    return PROJECTORS[kind](embedding_dim, tokens, hidden_size)
