"""Muon for matrices and AdamW for the rest, as one optimizer."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer


class MuonAdamW(Optimizer):
    """Both behind one `step`, because Lightning counts a step for every optimizer it is given.

    Muon (Jordan et al. 2024, as in `torch.optim.Muon`) takes the orthogonalised momentum of each
    matrix; its steps are scaled to AdamW's usual size, so its rates are of AdamW's order.

    Args:
        matrices: 2-D parameters for Muon; no embeddings.
        others: parameters for AdamW, without weight decay.
        muon_lr: peak rate of Muon.
        adamw_lr: peak rate of AdamW.
        weight_decay: of Muon.
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
        # One copy of rates and moments: schedules and checkpoints act on this object's.
        for part, group in zip(self._parts, self.param_groups, strict=True):
            part.param_groups, part.state = [group], self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Rates and moments of both parts."""
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step of each part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss
