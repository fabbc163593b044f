"""Compare a saved language model with the one in memory, one weight at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoConfig, AutoModelForCausalLM

from prefix_models.errors import PrefixModelError, refusing
from prefix_models.lm.adapters import plain_state, shapes_of
from prefix_models.lm.outline import base_of, no_random_numbers
from prefix_models.lm.strict_loading import some

_HALF = (torch.bfloat16, torch.float16)


def check_stored(lm: nn.Module, folder: Path) -> None:
    """Raise PrefixModelError unless a folder has the language model's weights, without adapters.

    The weights are compared one by one. If transformers saves them in another layout than in memory
    (experts separately), only their number is compared. Quantised weights, and weights that
    accelerate keeps outside memory, are not compared.
    """
    config = _config(folder, None)
    if _quantised(config):
        return
    state = plain_state(lm)
    _check_outline(state, config, str(folder))
    if any(value.is_meta for value in state.values()):
        return
    other, count = [], 0
    for name, weight in _weights(_files(folder)):
        count += weight.numel()
        if name not in state:
            other.append(name)
        elif weight.dtype != state[name].dtype or not torch.equal(weight, state[name].cpu()):
            raise PrefixModelError(f"{folder}: the weight {name} is not the one in memory")
    if count != sum({value.data_ptr(): value.numel() for value in state.values()}.values()):
        raise PrefixModelError(
            f"{folder}: the weights differ from those of the language model in memory (which has "
            f"no {some(sorted(other))})"
        )


def check_named(lm: nn.Module, reference: Mapping[str, Any]) -> None:
    """Raise PrefixModelError if the language model differs from the one that it was loaded from.

    Its weights, without adapters, are compared with those of the same names in the files on this
    machine.

    Args:
        lm: language model.
        reference: source, a folder or hub id; revision.
    """
    source, revision = str(reference["source"]), reference["revision"]
    config = _config(source, revision)
    if _quantised(config) or _quantised(base_of(lm).config):
        return
    state = plain_state(lm)
    _check_outline(state, config, source)
    above = f"{base_of(lm).base_model_prefix}."  # missing in older files
    for name, weight in _weights(_files_of(source, revision)):
        held = state.get(name, state.get(above + name))
        if held is not None and not held.is_meta and not _alike(weight, held.cpu()):
            raise PrefixModelError(
                f"the language model is no longer that of {source} ({name} differs): it was "
                "trained, or adapters changed it; store it instead of referring to it"
            )


def _check_outline(state: Mapping[str, Tensor], config: Any, source: str) -> None:
    """Raise PrefixModelError unless the config builds a model with these names and shapes."""
    refused = refusing(PrefixModelError, f"{source}: can't be rebuilt")
    with refused, no_random_numbers(), torch.device("meta"):
        made = AutoModelForCausalLM.from_config(config)
    wanted, found = shapes_of(made.state_dict()), shapes_of(state)
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            raise PrefixModelError(
                f"{source}: config.json needs {name} of shape {wanted.get(name)}, the one in "
                f"memory has {found.get(name)}"
            )


def _config(source: str | Path, revision: str | None) -> Any:
    with refusing(PrefixModelError, f"cannot read config.json of {source}"):
        try:
            return AutoConfig.from_pretrained(source, revision=revision, local_files_only=True)
        except OSError:
            if Path(source).is_dir():
                raise
            return AutoConfig.from_pretrained(source, revision=revision)


def _quantised(config: Any) -> bool:
    return getattr(config, "quantization_config", None) is not None


def _files_of(source: str, revision: str | None) -> list[Path]:
    """Return the weight files of a folder, or of a hub id in the cache if it is there."""
    if Path(source).is_dir():
        return _files(Path(source))
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, "config.json", revision=revision)
    return _files(Path(found).parent) if isinstance(found, str) else []


def _files(folder: Path) -> list[Path]:
    return sorted(folder.glob("model*.safetensors"))


def _weights(files: list[Path]) -> Iterator[tuple[str, Tensor]]:
    for path in files:
        with safe_open(path, framework="pt") as weights:
            for name in weights.keys():  # noqa: SIM118  # no mapping
                yield name, weights.get_tensor(name)


def _alike(kept: Tensor, held: Tensor) -> bool:
    """Whether weights are equal up to a precision that one of them was rounded to."""
    rounded = (held.dtype, *_HALF)
    return any(torch.equal(kept.to(dtype), held.to(dtype)) for dtype in rounded)
