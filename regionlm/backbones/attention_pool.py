"""Attention pooling, as the last block of an image tower: one query, learned, and no residual."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from regionlm.backbones.blocks import BlockWeights


@dataclass(frozen=True, kw_only=True)
class AttentionPool(BlockWeights):
    """What turns tokens ``[B, N, D]`` into the pooled one ``[B, 1, E]``, by attention from a query
    of its own (SigLIP's latent, CoCa's first query); an MLP beside a residual stream may follow.

    As a block it differs from others in that queries are no function of the tokens, and that the
    stream begins with its output. ``qkv_weight`` and ``qkv_bias`` are those of keys and of values
    alone. ``query [heads, 1, dh]``. ``raw`` leaves out ``norm_1``. Where no MLP follows, its width
    is 0.
    """

    query: Tensor
    raw: bool = False

    def qkv(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The query ``[B, heads, 1, dh]``, and keys and values ``[B, heads, N, dh]`` of tokens."""
        seen = x if self.raw else self.norm_1(x)
        k, v = (
            part.view(*part.shape[:2], self.heads, -1).transpose(1, 2)
            for part in self._projections(seen)
        )
        k = k if self.norm_key is None else self.norm_key(k)
        return self.query.expand(len(x), -1, -1, -1), k, v

    def after_attention(self, x: Tensor, mixed: Tensor) -> Tensor:
        """The stream ``[B, r, E]`` of mixed values ``[B, heads, r, dh]``: they alone."""
        return self.attention_output(mixed)
