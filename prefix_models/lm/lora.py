"""New low-rank adapters (LoRA, Hu et al. 2021) on a language model (`regionlm[lora]`)."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

from prefix_models.errors import PrefixModelError, refusing
from prefix_models.lm.adapters import is_adapted, peft_package


@dataclass(frozen=True)
class LoraOptions:
    """How LoRA layers are made.

    Args:
        rank: rank of each matrix's update.
        alpha: the update is scaled by alpha / rank.
        dropout: on the adapters' input in training.
        target_modules: names of the layers to adapt; "all-linear" means all but the output layer.
    """

    rank: int = 16
    alpha: float = 32
    dropout: float = 0.05
    target_modules: str | list[str] = "all-linear"


def add_lora(
    lm: Any,
    *,
    rank: int = LoraOptions.rank,
    alpha: float = LoraOptions.alpha,
    dropout: float = LoraOptions.dropout,
    target_modules: str | list[str] = LoraOptions.target_modules,
) -> Any:
    """Return the language model with untrained LoRA layers, for use in a prefix model.

    This changes `lm` itself: peft adds its layers to the given object and sets `requires_grad` of
    all other parameters to False. Untrained layers do not change any output.

    Args:
        lm: a Hugging Face causal language model without adapters, in any precision peft supports.
        rank, alpha, dropout, target_modules: see LoraOptions.

    Raises:
        PrefixModelError: peft is not installed, it can't use the settings, or `lm` has adapters.
    """
    return with_lora(lm, LoraOptions(rank, alpha, dropout, target_modules))


def with_lora(lm: Any, options: LoraOptions) -> Any:
    """Return the language model with untrained LoRA layers; see `add_lora`."""
    peft = peft_package()
    if is_adapted(lm):
        raise PrefixModelError(
            "expected a language model without adapters, found some on it; train those further, or "
            "merge them into its weights first (peft's merge_and_unload)"
        )
    alpha, dropout = options.alpha, options.dropout
    with refusing(PrefixModelError, "these LoRA settings can't be used", (ValueError, TypeError)):
        if not (0 < alpha < math.inf and 0 <= dropout < 1):  # peft takes any
            raise ValueError(
                f"expected alpha above 0, dropout from 0 to below 1; found {alpha}, {dropout}"
            )
        settings = peft.LoraConfig(
            r=options.rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=options.target_modules,
            task_type="CAUSAL_LM",
        )
        with warnings.catch_warnings():
            # GPT-2's matrices are stored transposed; peft handles that, but warns about it.
            warnings.simplefilter("ignore")
            return peft.get_peft_model(lm, settings)
