"""AdamW for one tensor with a gradient computed by hand."""

from __future__ import annotations

import torch
from torch import Tensor


class AdamW:
    """``torch.optim.AdamW`` (default betas and eps) without parameters, ``.grad`` or grad modes.

    Args:
        value: start; copied. lr: step size. weight_decay: decoupled.
    """

    def __init__(self, value: Tensor, lr: float, weight_decay: float) -> None:
        self.value = value.clone()
        self.lr, self.weight_decay = lr, weight_decay
        self._mean = torch.zeros_like(value)
        self._square = torch.zeros_like(value)
        self._steps = 0

    def step(self, gradient: Tensor, beta1: float = 0.9, beta2: float = 0.999) -> None:
        """Update ``value`` with ``gradient`` of the same shape."""
        self._steps += 1
        self.value.mul_(1 - self.lr * self.weight_decay)
        self._mean.lerp_(gradient, 1 - beta1)
        self._square.mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
        scale = (1 - beta2**self._steps) ** 0.5
        denominator = self._square.sqrt().div_(scale).add_(1e-8)
        self.value.addcdiv_(self._mean, denominator, value=-self.lr / (1 - beta1**self._steps))
