"""A ProjectorModel as a folder.

```
config.json            settings; the tokenizer and language model that they belong to
projector.safetensors
language_model/        see prefix_models.lm.folder; only tokenizer and adapters if config.json
                       refers to the language model instead
```
"""

from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import nn

from prefix_models.errors import PrefixModelError, within
from prefix_models.folders import CONFIG, FolderKind
from prefix_models.lm.folder import (
    LANGUAGE_MODEL,
    check_language_model,
    check_trained_with,
    describe_language_model,
    describe_tokenizer,
    read_language_model,
    read_referenced,
    read_tokenizer,
    reference_of,
    restore_adapters,
    write_language_model,
)
from prefix_models.mapper_files import check_same_weights, load_mapper, save_mapper
from prefix_models.projector.config import ProjectorConfig, Storage
from prefix_models.projector.projectors import build_projector

PROJECTOR = FolderKind("projector model", "regionlm/projector", 1, PrefixModelError)
WEIGHTS = "projector.safetensors"


class ProjectorParts(NamedTuple):
    """The contents of a folder except the projector's weights, which are in the file `WEIGHTS`."""

    lm: Any
    tokenizer: Any
    config: ProjectorConfig
    reference: dict[str, Any] | None
    """Where the language model was loaded from, if the folder only refers to it."""


def write_projector(
    parts: ProjectorParts, projector: nn.Module, folder: Path, storage: Storage | None
) -> None:
    """Write a model to `folder`, completely or not at all; see ProjectorModel.save_pretrained."""
    if storage not in (None, *get_args(Storage)):
        raise PrefixModelError(
            f"language_model: expected one of {list(get_args(Storage))}, found {storage!r}"
        )
    by_name = storage == "reference" or (storage is None and parts.reference is not None)
    reference = (parts.reference or reference_of(parts.lm)) if by_name else None
    parts = parts._replace(reference=reference)
    with PROJECTOR.replacing(
        folder, lambda staging: _read_back(parts, projector, staging)
    ) as staging:
        save_mapper(projector, staging / WEIGHTS)
        write_language_model(parts.lm, staging / LANGUAGE_MODEL, weights=not by_name)
        parts.tokenizer.save_pretrained(staging / LANGUAGE_MODEL)
        config = {
            "projector": parts.config.to_dict(),
            "tokenizer": describe_tokenizer(parts.tokenizer),
            "language_model": describe_language_model(parts.lm),
            "reference": reference,
        }
        PROJECTOR.write_config(staging, config)


def read_projector(
    folder: Path, dtype: torch.dtype | None, lm: Any, offline: bool
) -> ProjectorParts:
    """Read what `write_projector` wrote; see ProjectorModel.from_pretrained."""
    config = PROJECTOR.read_config(folder)
    settings = _settings(config, folder)
    parts = folder / LANGUAGE_MODEL
    tokenizer = read_tokenizer(parts, config["tokenizer"])
    base = lm
    if lm is None and config["reference"] is None:
        base = read_language_model(parts, dtype)
    elif lm is None:
        base = read_referenced(config["reference"], offline, dtype)
    loaded = restore_adapters(base, parts, config["language_model"], dtype)
    check_trained_with(
        "language model", config["language_model"], describe_language_model(loaded), folder
    )
    return ProjectorParts(loaded, tokenizer, settings, config["reference"])


def _read_back(parts: ProjectorParts, projector: nn.Module, folder: Path) -> None:
    """Raise PrefixModelError unless `read_projector` would read the same model."""
    config = PROJECTOR.read_config(folder)
    if (_settings(config, folder), config["reference"]) != (parts.config, parts.reference):
        raise PrefixModelError(f"{folder / CONFIG} was not written correctly")
    read_tokenizer(folder / LANGUAGE_MODEL, config["tokenizer"])
    check_language_model(parts.lm, parts.reference, folder / LANGUAGE_MODEL)
    read = empty_projector(parts.lm, parts.config)
    load_mapper(read, folder / WEIGHTS)
    check_same_weights(read, projector, folder / WEIGHTS)


def empty_projector(lm: Any, settings: ProjectorConfig) -> nn.Module:
    """Return a projector on the meta device, to be filled with weights."""
    width = lm.get_input_embeddings().weight.shape[1]
    with torch.device("meta"):
        return build_projector(
            settings.projector, settings.embedding_dim, settings.tokens_per_region, width
        )


def _settings(config: dict[str, Any], folder: Path) -> ProjectorConfig:
    path = folder / CONFIG
    for name in ("projector", "tokenizer", "language_model"):
        if not isinstance(config.get(name), dict):
            raise PrefixModelError(f"{path} lacks the settings under {name!r}")
    config.setdefault("reference", None)
    with within(path):
        return ProjectorConfig.from_dict(config["projector"])
