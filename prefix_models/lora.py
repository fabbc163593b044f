"""Low-rank adapters (LoRA, Hu et al. 2021) on a language model, by peft (`regionlm[lora]`)."""

import math
from pathlib import Path
from typing import Any

import torch

from prefix_models.errors import PrefixModelError

_WEIGHTS, _CONFIG = "adapter_model.safetensors", "adapter_config.json"
_NAME = "default"


def add_lora(
    lm: Any,
    *,
    rank: int = 16,
    alpha: float = 32,
    dropout: float = 0.05,
    target_modules: str | list[str] = "all-linear",
) -> Any:
    """Return the language model with untrained LoRA layers, to be given to a prefix model.

    This changes `lm` itself: peft puts its layers into the object it is given and sets
    `requires_grad` of all other parameters to False. Untrained, they leave every output as it was.

    Args:
        lm: a Hugging Face causal language model, in any precision that peft knows.
        rank: of the update of each matrix.
        alpha: the update is scaled by alpha / rank.
        dropout: on the adapters' input in training.
        target_modules: names of the layers to adapt; "all-linear" is all but the output layer.

    Raises:
        PrefixModelError: peft is not installed, or settings that it can't use.
    """
    peft = _peft()
    from transformers.pytorch_utils import Conv1D

    transposed = any(isinstance(part, Conv1D) for part in lm.modules())  # GPT-2's way to store them
    try:
        if not (0 < alpha < math.inf and 0 <= dropout < 1):  # peft takes any
            raise ValueError(
                f"expected alpha above 0, dropout from 0 to below 1; found {alpha}, {dropout}"
            )
        settings = peft.LoraConfig(
            r=rank,
            lora_alpha=alpha,
            lora_dropout=dropout,
            target_modules=target_modules,
            fan_in_fan_out=transposed,
            task_type="CAUSAL_LM",
        )
        return peft.get_peft_model(lm, settings)
    except (ValueError, TypeError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise PrefixModelError(f"these LoRA settings can't be used: {reason[0]}") from error


def write_adapter(lm: Any, folder: Path) -> None:
    """Write the adapters as peft does.

    Raises:
        PrefixModelError: there are several sets of adapters, or one of another name.
    """
    if list(lm.peft_config) != [_NAME]:
        raise PrefixModelError(
            f"expected one set of adapters named {_NAME!r} on the language model, got "
            f"{list(lm.peft_config)}; merge or delete the others with peft"
        )
    # "auto" would ask the hub whether the embedding was resized.
    lm.save_pretrained(folder, save_embedding_layers=False)


def read_adapter(lm: Any, folder: Path, dtype: torch.dtype | None = None) -> Any:
    """Return the language model with the adapters of a folder, ready to be trained further.

    Their precision is `dtype`; None means as saved.

    Raises:
        PrefixModelError: peft is not installed; a file is missing or damaged; names or shapes of
            weights are others than the adapters' settings ask for.
    """
    peft = _peft()
    from safetensors.torch import load_file

    for name in (_CONFIG, _WEIGHTS):
        if not (folder / name).is_file():
            raise PrefixModelError(f"missing file: {folder / name}")
    try:
        weights = load_file(folder / _WEIGHTS)
        settings = peft.PeftConfig.from_pretrained(str(folder))
        settings.inference_mode = False  # peft writes True; it would freeze the adapters
        # Loading without all weights would leave random ones, so they are set below, strictly.
        adapted = peft.get_peft_model(lm, settings, autocast_adapter_dtype=False)
    except Exception as error:  # safetensors', JSON's and peft's errors have no common type
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise PrefixModelError(f"cannot read the adapters in {folder}: {reason[0]}") from error
    expected = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False)
    shapes = {name: list(value.shape) for name, value in expected.items()}
    found = {name: list(value.shape) for name, value in weights.items()}
    if shapes != found:
        name = sorted(name for name in {**shapes, **found} if shapes.get(name) != found.get(name))[
            0
        ]
        raise PrefixModelError(
            f"{folder / _WEIGHTS} does not fit {_CONFIG}: {name} has shape {found.get(name)}, "
            f"expected {shapes.get(name)}"
        )
    for name, parameter in adapted.named_parameters():
        saved = weights.get(name.replace(f".{_NAME}", ""))
        if saved is not None:
            parameter.data = parameter.data.to(dtype or saved.dtype)
    peft.set_peft_model_state_dict(adapted, weights)
    return adapted


def _peft() -> Any:
    try:
        import peft
    except ImportError as error:
        raise PrefixModelError(
            "LoRA adapters need peft, which is not installed: pip install 'regionlm[lora]'"
        ) from error
    return peft
