"""AdamW with a learning-rate schedule, and the AdamW of CLIPCap's published code."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import get_scheduler

from training.fit_settings import Recipe

_SCHEDULES = {"cosine": "cosine", "linear": "linear", "constant": "constant_with_warmup"}
_ORIGINAL_EPS = 1e-6


class OriginalAdamW(torch.optim.AdamW):
    """The AdamW of transformers in 2021, which adds `eps` before it corrects the variance's bias.

    Its step lr * sqrt(c2) / c1 * m / (sqrt(v) + eps), with c = 1 - beta^t, equals that of torch
    with eps / sqrt(c2).
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step in all groups."""
        for group in self.param_groups:
            group.setdefault("original_eps", group["eps"])
            steps = [
                float(self.state[p]["step"]) for p in group["params"] if "step" in self.state[p]
            ]
            done = max(steps, default=0.0)
            group["eps"] = group["original_eps"] / (1 - group["betas"][1] ** (done + 1)) ** 0.5
        return super().step(closure)


def new_optimizer(
    parameters: Iterable[nn.Parameter], recipe: Recipe, steps: int
) -> tuple[torch.optim.Optimizer, LambdaLR]:
    """Create AdamW and its schedule over `steps` steps."""
    parameters = list(parameters)
    optimizer: torch.optim.Optimizer
    if recipe.clipcap_original:
        optimizer = OriginalAdamW(
            parameters, recipe.lr, eps=_ORIGINAL_EPS, weight_decay=recipe.weight_decay
        )
    else:
        optimizer = torch.optim.AdamW(parameters, recipe.lr, weight_decay=recipe.weight_decay)
    schedule: Any = get_scheduler(
        _SCHEDULES[recipe.schedule],
        optimizer,
        num_warmup_steps=recipe.warmup,
        num_training_steps=steps,
    )
    return optimizer, schedule
