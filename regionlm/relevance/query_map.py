"""From the gradient at the pooled token to the gradient at every query's mixed values, and back.

This is the token-wise half of the factored gradient: it mixes no tokens, so it is a linear map
``u [D] -> q [n, D]`` whose weights can be merged once per model (``MergedWeights``) and once per
image (``QueryMap``). A call is one large matrix product, and one transposed for its derivative.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from regionlm.backbones.blocks import Activation, BlockWeights


@dataclass(frozen=True)
class MergedWeights:
    """Products of a block's weights; D: width, F: MLP width. Float32 or wider.

    Back-propagation multiplies by the MLP's first layer, the norm's weight, its mean removal,
    LayerScale and the attention's output projection, with nothing token-dependent in between (the
    norm's own 1/sigma is a factor per token): one ``[F, D]`` matrix.
    """

    mlp_to_heads: Tensor  # [F, D]  W_1 diag(gamma) (I - 1 1^T / D) diag(scale) W_o
    stream_to_heads: Tensor  # [D, D]  diag(scale) W_o
    mlp_output: Tensor  # [D, F]  diag(scale_mlp) W_2
    offset: Tensor  # [F]  pre-activation of a token whose normalised input is zero

    @staticmethod
    def sources(block: BlockWeights) -> list[Tensor]:
        """The tensors that ``of`` reads: when none of them changed, neither did its result."""
        norm, scales = block.norm_2, (block.scale_attention, block.scale_mlp)
        fixed = [block.out_weight, block.fc_weight, block.fc_bias, block.proj_weight]
        return [*fixed, norm.weight, norm.bias, *(s for s in scales if s is not None)]

    @classmethod
    @torch.no_grad()
    def of(cls, block: BlockWeights) -> MergedWeights:
        """Merge the weights of one block: one ``[F, D] @ [D, D]`` product."""
        wide = torch.promote_types(block.fc_weight.dtype, torch.float32)
        out, proj = block.out_weight.to(wide), block.proj_weight.to(wide)
        if block.scale_attention is not None:
            out = block.scale_attention.to(wide)[:, None] * out
        if block.scale_mlp is not None:
            proj = block.scale_mlp.to(wide)[:, None] * proj
        fc, norm = block.fc_weight.to(wide), block.norm_2.to(wide)
        offset = F.linear(norm.bias, fc, block.fc_bias.to(wide))
        scaled = fc * norm.weight
        centred = scaled - scaled.mean(1, keepdim=True)
        return cls(centred @ out, out, proj, offset)


class QueryMap:
    """``u -> q`` for the n tokens of one image, for at most ``capacity`` masks at once.

    Args:
        weights: of the block the tokens went through.
        norm_eps, activation: of that block's MLP.
        residual: ``[n, D]`` tokens after attention.
        pre_activation: ``[n, F]`` of the MLP.
        capacity: masks per call; buffers of that many times n rows are made here and reused.
    """

    def __init__(
        self,
        weights: MergedWeights,
        activation: Activation,
        norm_eps: float,
        residual: Tensor,
        pre_activation: Tensor,
        capacity: int,
    ) -> None:
        wide = weights.mlp_to_heads.dtype
        x, a = residual.to(wide), pre_activation.to(wide)
        self.weights = weights
        self.tokens, width = x.shape
        variance, mean = torch.var_mean(x, 1, correction=0, keepdim=True)
        inverse_sigma = torch.rsqrt(variance + norm_eps)
        # slope: the activation's derivative with the norm's 1/sigma; along: what the norm removes
        # along the normalised token itself (its input times weight is pre-activation less offset).
        self.slope = activation.derivative(a).mul_(inverse_sigma)
        self.along = (a - weights.offset).mul_(self.slope).div_(width)
        self.normal = ((x - mean) * inverse_sigma) @ weights.stream_to_heads
        self._hidden = x.new_empty(capacity * self.tokens, a.shape[1])
        self._queries = x.new_empty(capacity * self.tokens, width)

    def forward(self, u: Tensor) -> Tensor:
        """Gradients ``q [m, n, D]`` at the mixed values for gradients ``u [m, D]`` at the stream.

        The result lives in a buffer that the next call of ``forward`` or ``backward`` overwrites.
        """
        m, n = len(u), self.tokens
        w = u @ self.weights.mlp_output
        hidden = self._hidden[: m * n]
        torch.mul(self.slope, w[:, None, :], out=hidden.view(m, n, -1))
        q = torch.mm(hidden, self.weights.mlp_to_heads, out=self._queries[: m * n]).view(m, n, -1)
        q += (u @ self.weights.stream_to_heads)[:, None, :]
        return q.addcmul_((w @ self.along.T)[:, :, None], self.normal, value=-1)

    def backward(self, dq: Tensor) -> Tensor:
        """The transposed map: ``dq [m, n, D] -> du [m, D]``. Reads nothing that forward saved."""
        m, n, width = dq.shape
        hidden = self._hidden[: m * n]
        torch.mm(dq.reshape(m * n, width), self.weights.mlp_to_heads.T, out=hidden)
        dw = hidden.view(m, n, -1).mul_(self.slope).sum(1)
        dw -= (dq * self.normal).sum(2) @ self.along
        return dw @ self.weights.mlp_output.T + dq.sum(1) @ self.weights.stream_to_heads.T
