"""Muon for matrices and AdamW for all other parameters, as one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer


class MuonAdamW(Optimizer):
    """Both behind one `step`, since Lightning counts the steps of each optimizer.

    Muon (Jordan et al. 2024, as in `torch.optim.Muon`) steps along the orthogonalised momentum of
    each matrix. Its steps are scaled to the usual size of AdamW's, so the rates are similar.

    Args:
        matrices: 2-D parameters for Muon, without embeddings.
        others: parameters for AdamW, which has no weight decay.
        muon_lr: peak rate of Muon.
        adamw_lr: peak rate of AdamW.
        weight_decay: weight decay of Muon.
    """

    def __init__(
        self,
        matrices: Iterable[nn.Parameter],
        others: Iterable[nn.Parameter],
        muon_lr: float,
        adamw_lr: float,
        weight_decay: float,
    ) -> None:
        self._parts: tuple[Optimizer, ...] = (
            Muon(matrices, muon_lr, weight_decay, adjust_lr_fn="match_rms_adamw"),
            AdamW(others, adamw_lr, betas=(0.9, 0.98), weight_decay=0.0),
        )
        super().__init__([group for part in self._parts for group in part.param_groups], {})
        self._share()

    def _share(self) -> None:
        # Schedules and checkpoints change the rates and moments of this object, which both share.
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load the rates and moments of both parts."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """Take a step with each part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss
