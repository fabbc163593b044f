"""Low-rank adapters on a language model: the only module that knows how peft attaches them.

They are in peft's wrapper of a language model (`PeftModel`) or in its own layers, where
`peft.inject_adapter_in_model` and transformers (`load_adapter`, `add_adapter`, `from_pretrained` of
an adapter's folder) put them. This module treats both alike.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prefix_models.errors import PrefixModelError, refusing
from prefix_models.lm.outline import base_of, no_random_numbers, outline_of

_NEW = "default"  # name of the set that this module makes
_WRAPPED = "base_model.model."  # before the names in peft's files, which are those of its wrapper
# Options of LoRA with which saved adapters can't be read back as they were.
_REFUSED = {
    "layer_replication": "which changes the language model itself; save the changed model instead",
    "alora_invocation_tokens": "which are searched for among token ids, and a prefix has none",
}


# --- adapters on a language model


@dataclass(frozen=True)
class Adapters:
    """One set of LoRA adapters on a language model.

    Args:
        holder: peft's wrapper, or the model whose own layers hold the adapters.
        base: transformers' model.
        name: of the set.
        settings: peft's LoraConfig.
    """

    holder: Any
    base: Any
    name: str
    settings: Any


def is_adapted(lm: nn.Module) -> bool:
    """Whether any part of the language model belongs to peft."""
    return any(type(part).__module__.partition(".")[0] == "peft" for part in lm.modules())


def check_adapters(lm: nn.Module) -> None:
    """Raise PrefixModelError unless the language model's adapters, if any, can be saved.

    They can if they are a single set of LoRA (including DoRA, rsLoRA, modules_to_save and so on),
    enabled and not merged, whose settings rebuild the same layers.
    """
    if is_adapted(lm):
        found = adapters_of(lm)
        shapes = shapes_of(adapter_state(lm))
        check_fit(found.base, found.settings, shapes, "the language model's adapters")


def adapters_of(lm: nn.Module) -> Adapters:
    """Return the adapters of an adapted language model.

    Raises:
        PrefixModelError: they are of another kind than LoRA, several sets, merged or disabled.
    """
    peft, base = peft_package(), base_of(lm)
    holders = [part for part in lm.modules() if isinstance(part, peft.PeftModel)]
    holder = holders[0] if holders else base
    sets = dict(getattr(holder, "peft_config", {}))
    for settings in sets.values():
        check_kind(settings, "the language model")
    state = peft.get_model_status(holder)
    if len(holders) > 1 or len(sets) != 1 or state.available_adapters != list(sets):
        raise PrefixModelError(
            "expected one set of adapters on the language model, found "
            f"{sorted({*sets, *state.available_adapters})}; merge or delete the others with peft"
        )
    ((name, settings),) = sets.items()
    if state.merged_adapters:  # their names, or "irregular" if only in some layers
        raise PrefixModelError(
            "expected adapters beside the language model's weights, found them also merged into "
            "the weights, so that they would count twice; call unmerge_adapter or merge_and_unload"
        )
    if state.enabled is not True or state.active_adapters != [name]:
        raise PrefixModelError(
            "expected adapters that are enabled in all layers of the language model, found them "
            "disabled; enable them, or remove them (peft's unload)"
        )
    return Adapters(holder, base, name, settings)


def check_kind(settings: Any, where: str) -> None:
    """Raise PrefixModelError unless peft's settings are those of LoRA."""
    kind = str(getattr(settings.peft_type, "value", settings.peft_type))
    if kind != "LORA":
        raise PrefixModelError(
            f"expected adapters of peft's kind LORA on {where}, found {kind}, which a prefix model "
            "can't save; use LoRA, or merge them into the weights (peft's merge_and_unload)"
        )
    for option, why in _REFUSED.items():
        if getattr(settings, option, None) is not None:
            raise PrefixModelError(f"expected adapters on {where} without {option}, {why}")


# --- weights


def adapter_state(lm: nn.Module) -> dict[str, Tensor]:
    """Return the adapters' weights under the names that peft saves them with.

    They are the parameters and buffers themselves; empty if there are no adapters.
    """
    if not is_adapted(lm):
        return {}
    found = adapters_of(lm)
    above = _WRAPPED if found.holder is found.base else ""
    return {above + name: value for name, value in _state(found.holder, found.name).items()}


def plain_state(lm: nn.Module) -> dict[str, Tensor]:
    """Return the weights without adapters, under their original names; they are not copied."""
    base = base_of(lm)
    inside = _wrappers(base) if is_adapted(lm) else {}
    named = ((_plain_name(name, inside), value) for name, value in base.state_dict().items())
    return {name: value for name, value in named if name is not None}


def without_adapters(lm: nn.Module) -> Any:
    """Return the language model without its adapters, as another object that shares weights.

    Raises:
        PrefixModelError: its weights are quantised or offloaded.
    """
    plain, state = outline_of(lm), plain_state(lm)
    if any(value.is_meta for value in state.values()):
        raise PrefixModelError(
            "the weights under the adapters can't be stored because not all are in memory; refer "
            "to the language model (language_model='reference') or load it completely"
        )
    try:
        plain.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise PrefixModelError(
            "the weights under the adapters can't be stored because they differ from what the "
            f"{type(plain).__name__}'s settings need; if they are quantised, refer to the language "
            "model (language_model='reference') or load it unquantised"
        ) from error
    plain.generation_config = base_of(lm).generation_config
    return plain


def _state(holder: Any, name: str, *, embeddings: bool = False) -> dict[str, Tensor]:
    found: dict[str, Tensor] = peft_package().get_peft_model_state_dict(
        holder,
        state_dict=holder.state_dict(keep_vars=True),
        adapter_name=name,
        # "auto" would ask the hub if the embedding was resized.
        save_embedding_layers=embeddings,
    )
    return found


def _wrappers(base: nn.Module) -> dict[str, str]:
    """Paths of peft's layers -> names of their children that hold the original layers."""
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils import AuxiliaryTrainingWrapper

    inside = {}
    for path, part in base.named_modules(remove_duplicate=False):
        if isinstance(part, AuxiliaryTrainingWrapper):
            original = part.original_module
        elif isinstance(part, BaseTunerLayer):
            original = part.get_base_layer()
        else:
            continue
        inside[path] = next(
            name
            for name, child in part.named_children()
            if any(module is original for module in child.modules())
        )
    return inside


def _plain_name(name: str, inside: Mapping[str, str]) -> str | None:
    """Return a weight's name without peft's layers; None for an adapter's weight."""
    path, kept = "", []
    for part in name.split("."):
        if path not in inside:
            kept.append(part)
        elif part != inside[path]:
            return None
        path = f"{path}.{part}" if path else part
    return ".".join(kept)


# --- rebuilding adapters


def put_on(lm: Any, settings: Any, weights: Mapping[str, Tensor], dtype: torch.dtype | None) -> Any:
    """Return the language model in peft's wrapper, with trainable adapters of these weights.

    This changes `lm` itself; `check_fit` says beforehand whether the adapters fit.

    Args:
        lm: a language model without adapters.
        settings: peft's.
        weights: under the names that peft saves them with.
        dtype: of the adapters; None means as given.

    Raises:
        PrefixModelError: peft can't use the settings, or the weights include embeddings that
            differ from the language model's.
    """
    adapted = _adapt(lm, settings)
    own = _state(adapted, _NEW)
    if len(own) != len(weights):
        whole = _state(adapted, _NEW, embeddings=True)
        for name in weights.keys() - own.keys():
            if not torch.equal(whole[name].cpu(), weights[name].to(whole[name].dtype)):
                raise PrefixModelError(
                    f"the adapters include embeddings other than the language model's ({name})"
                    "; merge them into it with peft (merge_and_unload) and use the result"
                )
    for name, value in own.items():
        value.data = value.data.to(dtype or weights[name].dtype)
    kept = {name: weights[name] for name in own}
    peft_package().set_peft_model_state_dict(adapted, kept, adapter_name=_NEW)
    return adapted


def check_fit(lm: nn.Module, settings: Any, found: Mapping[str, list[int]], whose: str) -> None:
    """Raise PrefixModelError unless the settings make adapters of exactly these names and shapes.

    Embeddings that peft may save with them are accepted. The check uses an outline of the language
    model, so `lm` is not changed.
    """
    outline = outline_of(lm)
    with torch.device("meta"):
        made = _adapt(outline, untrained(settings))
    wanted, whole = (shapes_of(_state(made, _NEW, embeddings=more)) for more in (False, True))
    wanted = {**{name: whole[name] for name in found if name in whole}, **wanted}
    for name in sorted({*wanted, *found}):
        if wanted.get(name) != found.get(name):
            raise PrefixModelError(
                f"{whose}: {name} has shape {found.get(name)}, expected {wanted.get(name)}"
            )


def _adapt(lm: Any, settings: Any) -> Any:
    settings = copy.deepcopy(settings)
    settings.inference_mode = False  # peft saves True, which would freeze the adapters
    settings.base_model_name_or_path = None  # peft warns if `lm` has another name
    with (
        refusing(PrefixModelError, "the adapters' settings can't be used on this language model"),
        no_random_numbers(),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("ignore")  # shown already when the adapters were made
        return peft_package().get_peft_model(
            lm, settings, adapter_name=_NEW, autocast_adapter_dtype=False
        )


def untrained(settings: Any) -> Any:
    """Return a copy of the settings with which new adapters leave the original weights alone."""
    settings = copy.deepcopy(settings)
    settings.init_lora_weights = True
    return settings


def shapes_of(weights: Mapping[str, Tensor]) -> dict[str, list[int]]:
    """Return the shape of each weight."""
    return {name: list(value.shape) for name, value in weights.items()}


def peft_package() -> Any:
    """Return the peft package; raise PrefixModelError if it is not installed."""
    try:
        import peft
    except ImportError as error:
        raise PrefixModelError(
            "LoRA adapters need peft, which is not installed: pip install 'regionlm[lora]'"
        ) from error
    return peft
