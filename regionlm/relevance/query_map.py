"""From the gradient at the pooled token to the gradient at every query's mixed values, and back.

This is the token-wise half of the factored gradient: it mixes no tokens, so it is a linear map
``u [D] -> q [n, D]`` whose weights can be merged once per model (``MergedWeights``) and once per
image (``QueryMap``). It is one large matrix product a mask, and one transposed for its derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from regionlm.backbones.blocks import BlockWeights, LayerNormWeights
from regionlm.relevance.products import by_row, each_by, for_each, spread, stacked


@dataclass(frozen=True)
class MergedWeights:
    """Products of a block's weights; D: width, F: MLP width (twice that if gated), A: width of
    attention. Float32 or wider.

    Back-propagation multiplies by the MLP's first layer, the norm's weight, its mean removal,
    LayerScale, attention's output projection and the weight of the norm before that, with nothing
    token-dependent in between (a norm's own 1/sigma is a factor per token): one ``[F, A]`` matrix.
    """

    mlp_to_heads: Tensor  # [F, A]  W_1 diag(gamma) (I - 1 1^T / D) diag(scale) W_o
    stream_to_heads: Tensor  # [D, A]  diag(scale) W_o
    mlp_output: Tensor  # [D, F]  diag(scale_mlp) W_2; twice if gated: for gate and up
    offset: Tensor  # [F]  pre-activation of a token whose normalised input is zero

    @staticmethod
    def sources(block: BlockWeights) -> list[Tensor]:
        """The tensors that ``of`` reads: when none of them changed, neither did its result."""
        norms = (block.norm_2, block.norm_again, block.norm_hidden, block.norm_mixed)
        found = [block.out_weight, block.proj_weight, block.scale_attention, block.scale_mlp]
        for layers in (block.fc_weight, block.fc_bias):
            found += [layers] if isinstance(layers, Tensor | None) else layers
        found += [norm.weight for norm in norms if norm is not None]
        found.append((block.norm_again or block.norm_2).bias)
        return [tensor for tensor in found if tensor is not None]

    @classmethod
    @torch.no_grad()
    def of(cls, block: BlockWeights) -> MergedWeights:
        """Merge the weights of one block: one ``[F, D] @ [D, A]`` product."""
        wide = torch.promote_types(block.proj_weight.dtype, torch.float32)
        out, proj = block.out_weight.to(wide), block.proj_weight.to(wide)
        if block.scale_attention is not None:
            out = block.scale_attention.to(wide)[:, None] * out
        if block.scale_mlp is not None:
            proj = block.scale_mlp.to(wide)[:, None] * proj
        if block.norm_mixed is not None:
            out = _before_norm(out, block.norm_mixed.weight)
        if block.norm_hidden is not None:
            proj = _before_norm(proj, block.norm_hidden.weight)
        if block.gated:
            proj = torch.cat([proj, proj], 1)
        weight, bias = block.first_layer()
        fc, norm = weight.to(wide), (block.norm_again or block.norm_2).to(wide)
        offset = fc.new_zeros(len(fc)) if bias is None else bias.to(wide)
        if norm.bias is not None:
            offset = F.linear(norm.bias, fc, offset)
        before = _before_norm(fc, norm.weight)
        if block.norm_again is not None:
            before = _before_norm(before, block.norm_2.weight)
        return cls(before @ out, out, proj, offset)


def _before_norm(weight: Tensor, gamma: Tensor) -> Tensor:
    """A layer's weight ``[out, in]``, times that of the norm before it, and its mean removal."""
    return centred(weight * gamma.to(weight))


def centred(x: Tensor) -> Tensor:
    """``[..., D]`` less each row's mean."""
    return x - x.mean(-1, keepdim=True)


def standardised(x: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """A layer norm's ``x^ [n, D]`` and ``1 / sigma [n, 1]``."""
    variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
    inverse_sigma = torch.rsqrt(variance + eps)
    return (x - mean) * inverse_sigma, inverse_sigma


class QueryMap:
    """``u -> q`` for the n tokens of one image, for at most ``capacity`` masks at once.

    The transposed Jacobian of a layer norm is, per token, a factor, the removal of the mean, and
    that of the direction of the normalised token: ``(I - x^ x^^T / D) (I - 1 1^T / D) / sigma``.
    What remains after the merged matrix is therefore a factor per number of the MLP and a few
    products of rank one.

    Args:
        weights: of the block the tokens went through.
        block: that block.
        residual: ``[n, D]`` tokens after attention.
        pre_activation: ``[n, F]`` of the MLP.
        mixed: ``[n, A]`` mixed values, only of a block with ``norm_mixed``.
        capacity: masks per call; a buffer of that many times n rows is made here and reused.
    """

    def __init__(
        self,
        weights: MergedWeights,
        block: BlockWeights,
        residual: Tensor,
        pre_activation: Tensor,
        capacity: int,
        mixed: Tensor | None = None,
    ) -> None:
        wide = weights.mlp_to_heads.dtype
        x, a = residual.to(wide), pre_activation.to(wide)
        self.weights = weights
        self.tokens, width = x.shape
        # slope: the activation's derivative with 1/sigma of norms; along: what the norm removes
        # along the normalised token itself (its input times weight is pre-activation less offset).
        hat, inverse_sigma = standardised(x, block.norm_2.eps)
        slope = block.activated_slope(a).mul_(inverse_sigma)
        removed = None
        if block.norm_hidden is not None:
            removed, inverse_sigma = standardised(block.activated(a), block.norm_hidden.eps)
            slope.mul_(inverse_sigma)
        if block.norm_again is None:
            along = (a - weights.offset).mul_(slope).div_(width)
            rank_one = [(along, hat @ weights.stream_to_heads)]
        else:
            rank_one = self._normed_twice(block, block.norm_again, x, hat, a, slope)
        if removed is not None:  # the gradient at the hidden is w less its part along that
            removed = torch.cat([removed, removed], 1) if block.gated else removed
            lost = (slope * removed) @ weights.mlp_to_heads
            for along, normal in rank_one:
                lost -= (along * removed).sum(1, keepdim=True) * normal
            rank_one.append((removed / removed.shape[1], lost))
        # Of all masks, or of each: see `together`.
        self._slope, self._rank_one = [slope], [([one], other[None]) for one, other in rank_one]
        self._mixed: tuple[Tensor, Tensor] | None = None
        if block.norm_mixed is not None:
            assert mixed is not None
            hat, inverse_sigma = standardised(mixed.to(wide), block.norm_mixed.eps)
            self._mixed = hat[None], inverse_sigma[None]
        self._hidden = x.new_empty(self.tokens, a.shape[1])
        self._queries = x.new_empty(capacity, self.tokens, weights.mlp_to_heads.shape[1])

    def _normed_twice(
        self,
        block: BlockWeights,
        again: LayerNormWeights,
        x: Tensor,
        hat: Tensor,
        a: Tensor,
        slope: Tensor,
    ) -> list[tuple[Tensor, Tensor]]:
        """What two norms in a row remove: the second along its normalised input, the first along
        its own, of what the second leaves. ``slope`` gets the second's 1/sigma."""
        gamma, fc, width = block.norm_2.weight.to(x), block.first_layer()[0].to(x), x.shape[1]
        again_hat, inverse_sigma = standardised(block.norm_2(x), again.eps)
        slope.mul_(inverse_sigma)
        along = (a - self.weights.offset).mul_(slope).div_(width)
        back = gamma * again_hat
        first = F.linear(again.weight.to(x) * centred(gamma * hat), fc).mul_(slope)
        first = first.sub_(along * (hat * back).sum(1, keepdim=True)).div_(width)
        to_heads = self.weights.stream_to_heads
        return [(along, centred(back) @ to_heads), (first, hat @ to_heads)]

    @classmethod
    def together(cls, maps: Sequence[QueryMap], counts: Sequence[int]) -> QueryMap:
        """The maps of several images as one, for so many masks of each, in order.

        They have the same block and number of tokens.
        """
        made = copy(maps[0])
        made._slope = spread([one._slope[0] for one in maps], counts)
        made._rank_one = [
            (
                spread([along for (along,), _ in parts], counts),
                stacked([normal for _, normal in parts], counts),
            )
            for parts in zip(*(one._rank_one for one in maps), strict=True)
        ]
        if made._mixed is not None:
            hats, factors = zip(*(one._mixed for one in maps if one._mixed), strict=True)
            made._mixed = stacked(hats, counts), stacked(factors, counts)
        made._queries = made._queries.new_empty(sum(counts), *made._queries.shape[1:])
        return made

    def forward(self, u: Tensor) -> Tensor:
        """Gradients ``q [m, n, A]`` at the mixed values for gradients ``u [m, D]`` at the stream.

        The result lives in a buffer that the next call of ``forward`` or ``backward`` overwrites.
        """
        weights = self.weights
        w = by_row(u, weights.mlp_output)
        q = self._queries[: len(u)]
        for one, row, slope in zip(q, w, for_each(self._slope, len(u)), strict=True):
            torch.mul(slope, row, out=self._hidden)
            torch.mm(self._hidden, weights.mlp_to_heads, out=one)
        q += by_row(u, weights.stream_to_heads)[:, None, :]
        for along, normal in self._rank_one:
            lengths = each_by(w, [one.T for one in for_each(along, len(u))])
            q.addcmul_(lengths[:, :, None], normal, value=-1)
        return q if self._mixed is None else self._through_norm(q, *self._mixed)

    def backward(self, dq: Tensor) -> Tensor:
        """The transposed map: ``dq [m, n, A] -> du [m, D]``. Reads nothing that forward saved."""
        if self._mixed is not None:
            dq = self._through_norm(dq.clone(), *self._mixed)
        weights, hidden = self.weights, self._hidden
        dw = dq.new_empty(len(dq), hidden.shape[1])
        for one, row, slope in zip(dq, dw, for_each(self._slope, len(dq)), strict=True):
            torch.mm(one, weights.mlp_to_heads.T, out=hidden)
            torch.sum(hidden.mul_(slope), 0, out=row)
        for along, normal in self._rank_one:
            dw -= each_by((dq * normal).sum(2), for_each(along, len(dq)))
        through_stream = by_row(dq.sum(1), weights.stream_to_heads.T)
        return by_row(dw, weights.mlp_output.T) + through_stream

    @staticmethod
    def _through_norm(q: Tensor, hat: Tensor, inverse_sigma: Tensor) -> Tensor:
        """The part per token of the norm on mixed values; symmetric, in place."""
        return q.addcmul_((q * hat).mean(2, keepdim=True), hat, value=-1).mul_(inverse_sigma)
