"""Adapters in peft's format: in a folder of their own, or a repository on the hub."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prefix_models.errors import PrefixModelError, refusing, within
from prefix_models.lm.adapters import (
    adapter_state,
    adapters_of,
    check_fit,
    check_kind,
    is_adapted,
    peft_package,
    put_on,
    shapes_of,
    untrained,
)

WEIGHTS, CONFIG = "adapter_model.safetensors", "adapter_config.json"


def write_adapter(lm: nn.Module, folder: Path) -> None:
    """Write the language model's adapters.

    Raises:
        PrefixModelError: see `prefix_models.lm.adapters.adapters_of`.
    """
    folder.mkdir(exist_ok=True)
    _settings_to_write(lm).save_pretrained(str(folder))
    # Cloned, because safetensors does not accept one tensor under two names.
    weights = {name: value.detach().clone() for name, value in adapter_state(lm).items()}
    weights = {name: value.contiguous() for name, value in weights.items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})


def read_adapter(lm: Any, folder: Path, dtype: torch.dtype | None = None) -> Any:
    """Return the language model with the adapters in a folder, ready for further training.

    As with `add_lora`, peft modifies `lm` itself, but only after the adapters are known to fit.

    Args:
        lm: a Hugging Face causal language model without adapters.
        folder: in peft's format.
        dtype: the adapters' precision; None means as saved.

    Raises:
        PrefixModelError: peft is not installed; a file is missing or damaged; or the weights do
            not have the names and shapes that the adapters' settings need.
    """
    settings, weights = _read(folder)
    if is_adapted(lm):
        raise PrefixModelError(
            f"{folder}: expected a language model without adapters, found some on it"
        )
    check_fit(lm, settings, shapes_of(weights), _fit(folder))
    with within(folder):
        return put_on(lm, settings, weights, dtype)


def check_written(lm: nn.Module, folder: Path) -> None:
    """Raise PrefixModelError unless a folder has exactly the language model's adapters."""
    settings, weights = _read(folder)
    check_fit(lm, settings, shapes_of(weights), _fit(folder))
    if settings != _settings_to_write(lm):
        raise PrefixModelError(f"{folder / CONFIG} was not written correctly")
    for name, value in adapter_state(lm).items():
        if value.dtype != weights[name].dtype or not torch.equal(value.cpu(), weights[name]):
            raise PrefixModelError(f"{folder / WEIGHTS}: {name} was not written correctly")


def find_adapter(source: str, *, offline: bool) -> Path | None:
    """Return the folder with the adapters of a folder or hub id; None if it has none.

    Adapters on the hub are downloaded, together with a tokenizer if there is one.

    Raises:
        PrefixModelError: the folder also holds a language model, or the download failed.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    folder = Path(source)
    if folder.is_dir():
        if not (folder / CONFIG).is_file():
            return None
        if any(folder.glob("model*.safetensors")):
            raise PrefixModelError(
                f"{folder} holds a language model and adapters ({CONFIG}); put them in two folders"
                " and give that of the adapters"
            )
        return folder
    try:
        hf_hub_download(source, CONFIG, local_files_only=offline)
    except Exception:  # no adapters, name or network: reported when it is loaded as a model
        return None
    files = [CONFIG, WEIGHTS, "*token*", "*.jinja"]
    with refusing(PrefixModelError, f"cannot read the adapters {source}"):
        return Path(snapshot_download(source, allow_patterns=files, local_files_only=offline))


def adapted_by(folder: Path) -> tuple[str, str | None]:
    """Return the language model that a folder's adapters belong to: source and hub revision.

    Raises:
        PrefixModelError: the folder does not say, or is damaged.
    """
    with refusing(
        PrefixModelError, f"cannot read {folder / CONFIG}", (OSError, ValueError, AttributeError)
    ):
        settings = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        source, revision = settings.get("base_model_name_or_path"), settings.get("revision")
    if not isinstance(source, str) or not source:
        raise PrefixModelError(
            f"{folder / CONFIG}: expected the adapters' language model, a folder or hub id, under"
            f" base_model_name_or_path; found {source!r}"
        )
    if Path(source).is_absolute() and not Path(source).is_dir():
        raise PrefixModelError(
            f"{folder / CONFIG}: the adapters' language model was in {source}, which no longer "
            "exists; correct base_model_name_or_path"
        )
    return source, revision


def _settings_to_write(lm: nn.Module) -> Any:
    # Adapters that changed the original weights must not do so again when they are read.
    settings = untrained(adapters_of(lm).settings)
    settings.inference_mode = True  # as peft writes it
    return settings


def _read(folder: Path) -> tuple[Any, dict[str, Tensor]]:
    peft = peft_package()
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise PrefixModelError(f"missing file: {folder / name}")
    with refusing(PrefixModelError, f"cannot read the adapters in {folder}"):
        weights = load_file(folder / WEIGHTS)
        settings = peft.PeftConfig.from_pretrained(str(folder))
    check_kind(settings, str(folder))
    return settings, weights


def _fit(folder: Path) -> str:
    return f"{folder / WEIGHTS} does not fit {CONFIG}"
