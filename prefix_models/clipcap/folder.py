"""A ClipCap model as a folder.

```
config.json               settings, the names of the prefixes and the default; the tokenizer and
                          language model that they belong to
language_model/           see prefix_models.lm.folder
mappers/<prefix>.safetensors
```
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import nn

from prefix_models.clipcap.config import ClipCapConfig, check_prefix_name
from prefix_models.clipcap.mappers import build_mapper
from prefix_models.errors import PrefixModelError, within
from prefix_models.folders import CONFIG, FolderKind
from prefix_models.lm.folder import (
    LANGUAGE_MODEL,
    check_language_model,
    check_trained_with,
    describe_language_model,
    describe_tokenizer,
    read_language_model,
    read_tokenizer,
    restore_adapters,
    write_language_model,
)
from prefix_models.mapper_files import check_same_weights, load_mapper, save_mapper

CLIPCAP = FolderKind("ClipCap model", "regionlm/clipcap", 1, PrefixModelError)
MAPPERS = "mappers"

Mappers = Mapping[str, nn.Module]
"""Mappers by the names of their prefixes."""


class ClipCapParts(NamedTuple):
    """The contents of a folder except the mappers' weights; for those see `read_mappers`."""

    lm: Any
    tokenizer: Any
    config: ClipCapConfig
    prefixes: list[str]
    default: str
    """Name of the prefix whose mapper to use."""


def write_folder(parts: ClipCapParts, mappers: Mappers, folder: Path) -> None:
    """Write a model to `folder`, completely or not at all; see ClipCap.save_pretrained."""
    with CLIPCAP.replacing(folder, lambda staging: _read_back(parts, mappers, staging)) as staging:
        _write(parts, mappers, staging)


def read_folder(folder: Path, dtype: torch.dtype | None) -> ClipCapParts:
    """Read the parts of a model that `write_folder` wrote; see ClipCap.from_pretrained."""
    metadata = CLIPCAP.read_config(folder)
    settings, prefixes, default = _settings(metadata, folder / CONFIG)
    parts, wanted = folder / LANGUAGE_MODEL, metadata.get("language_model")
    tokenizer = read_tokenizer(parts, metadata.get("tokenizer"))
    lm = restore_adapters(read_language_model(parts, dtype), parts, wanted, dtype)
    check_trained_with("language model", wanted, describe_language_model(lm), folder)
    return ClipCapParts(lm, tokenizer, settings, prefixes, default)


def _write(parts: ClipCapParts, mappers: Mappers, folder: Path) -> None:
    (folder / MAPPERS).mkdir()
    for name, mapper in mappers.items():
        save_mapper(mapper, folder / MAPPERS / f"{name}.safetensors")
    write_language_model(parts.lm, folder / LANGUAGE_MODEL)
    parts.tokenizer.save_pretrained(folder / LANGUAGE_MODEL)
    config = {
        "prefixes": parts.prefixes,
        "default_prefix": parts.default,
        "clipcap": parts.config.to_dict(),
        "tokenizer": describe_tokenizer(parts.tokenizer),
        "language_model": describe_language_model(parts.lm),
    }
    CLIPCAP.write_config(folder, config)


def read_mappers(
    folder: Path, lm: Any, settings: ClipCapConfig, prefixes: list[str]
) -> dict[str, nn.Module]:
    """Read the mapper of each prefix; PrefixModelError if its weights do not fit the settings."""
    mappers = {}
    for name in prefixes:
        mappers[name] = empty_mapper(lm, settings)
        load_mapper(mappers[name], folder / MAPPERS / f"{name}.safetensors")
    return mappers


def empty_mapper(lm: Any, settings: ClipCapConfig) -> nn.Module:
    """Return a mapper on the meta device, to be filled with weights."""
    width = lm.get_input_embeddings().weight.shape[1]
    with torch.device("meta"):
        return build_mapper(settings, width)


def _read_back(parts: ClipCapParts, mappers: Mappers, folder: Path) -> None:
    """Raise PrefixModelError unless `read_folder` would read the same model."""
    metadata = CLIPCAP.read_config(folder)
    settings, prefixes, default = _settings(metadata, folder / CONFIG)
    if (settings, prefixes, default) != (parts.config, parts.prefixes, parts.default):
        raise PrefixModelError(f"{folder / CONFIG} was not written correctly")
    read_tokenizer(folder / LANGUAGE_MODEL, metadata.get("tokenizer"))
    check_language_model(parts.lm, None, folder / LANGUAGE_MODEL)
    for name, mapper in read_mappers(folder, parts.lm, settings, prefixes).items():
        check_same_weights(mapper, mappers[name], folder / MAPPERS / f"{name}.safetensors")


def _settings(config: dict[str, Any], path: Path) -> tuple[ClipCapConfig, list[str], str]:
    prefixes, default = config.get("prefixes"), config.get("default_prefix")
    if not isinstance(prefixes, list) or default not in prefixes:
        raise PrefixModelError(f"{path}: default_prefix {default!r} is not among {prefixes!r}")
    settings = config.get("clipcap")
    if not isinstance(settings, dict):
        raise PrefixModelError(f"{path} lacks the settings under 'clipcap'")
    with within(path):
        names = [check_prefix_name(name) for name in prefixes]
        return ClipCapConfig.from_dict(settings), names, check_prefix_name(default)
