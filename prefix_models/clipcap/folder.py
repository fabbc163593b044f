"""A ClipCap model as a folder.

```
config.json               settings, names of the prefixes, which is the default; which tokenizer and
                          language model they belong to
language_model/           see prefix_models.lm.folder
mappers/<prefix>.safetensors
```
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prefix_models.clipcap.config import ClipCapConfig, check_prefix_name
from prefix_models.clipcap.mappers import build_mapper
from prefix_models.errors import PrefixModelError
from prefix_models.folders import CONFIG, FolderKind
from prefix_models.lm.folder import (
    check_language_model,
    check_same,
    describe_language_model,
    describe_tokenizer,
    read_adapter,
    read_language_model,
    read_tokenizer,
    require,
    write_language_model,
)
from prefix_models.lm.loading import some

if TYPE_CHECKING:
    from prefix_models.clipcap.model import ClipCap

CLIPCAP = FolderKind("ClipCap model", "regionlm/clipcap", 1, PrefixModelError)
LANGUAGE_MODEL, MAPPERS = "language_model", "mappers"


class ClipCapParts(NamedTuple):
    """What a folder holds besides the weights of the mappers; for those, see `read_mappers`."""

    lm: Any
    tokenizer: Any
    config: ClipCapConfig
    prefixes: list[str]
    default: str
    """Name of the mapper to use."""


def save_folder(model: "ClipCap", folder: Path) -> None:
    """Write `model` to `folder`, whole or not at all; see ClipCap.save_pretrained."""
    with CLIPCAP.replacing(folder, lambda staging: _read_back(model, staging)) as staging:
        _write(model, staging)


def read_folder(folder: Path, dtype: torch.dtype | None) -> ClipCapParts:
    """Read the parts of a model that `save_folder` wrote; see ClipCap.from_pretrained."""
    metadata = CLIPCAP.read_config(folder)
    settings, prefixes, default = _settings(metadata, folder / CONFIG)
    parts, wanted = folder / LANGUAGE_MODEL, metadata.get("language_model")
    tokenizer = read_tokenizer(parts, metadata.get("tokenizer"))
    lm = read_adapter(read_language_model(parts, dtype), parts, wanted, dtype)
    check_same("language model", wanted, describe_language_model(lm), folder)
    return ClipCapParts(lm, tokenizer, settings, prefixes, default)


def load_mapper(mapper: nn.Module, path: Path) -> None:
    """Fill a mapper from a safetensors file; names and shapes must match exactly."""
    require(path)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise PrefixModelError(f"{path} is damaged or not a safetensors file: {error}") from error
    check_weights(mapper, weights, str(path))
    mapper.load_state_dict(weights, strict=True, assign=True)


def check_same_weights(read: nn.Module, written: nn.Module, path: Path) -> None:
    """Raise PrefixModelError unless a mapper was read as it was written."""
    kept = read.state_dict()
    for name, value in written.state_dict().items():
        if value.dtype != kept[name].dtype or not torch.equal(value.cpu(), kept[name]):
            raise PrefixModelError(f"{path}: {name} is not what was to be written")


def check_weights(module: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Raise PrefixModelError unless `weights` has the module's names and shapes."""
    expected = module.state_dict()
    missing, unexpected = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or unexpected:
        raise PrefixModelError(
            f"{origin} does not fit the model: missing {some(missing)}, "
            f"unexpected {some(unexpected)}"
        )
    for name, tensor in expected.items():
        if tensor.shape != weights[name].shape:
            raise PrefixModelError(
                f"{origin}: {name} has shape {list(weights[name].shape)}, the model's settings ask "
                f"for {list(tensor.shape)}"
            )


def _write(model: "ClipCap", folder: Path) -> None:
    (folder / MAPPERS).mkdir()
    for name, mapper in model.mappers.items():
        weights = {key: value.contiguous() for key, value in mapper.state_dict().items()}
        save_file(weights, folder / MAPPERS / f"{name}.safetensors", metadata={"format": "pt"})
    write_language_model(model.lm, folder / LANGUAGE_MODEL)
    model.tokenizer.save_pretrained(folder / LANGUAGE_MODEL)
    config = {
        "prefixes": model.prefixes,
        "default_prefix": model.prefix_name,
        "clipcap": model.config.to_dict(),
        "tokenizer": describe_tokenizer(model.tokenizer),
        "language_model": describe_language_model(model.lm),
    }
    CLIPCAP.write_config(folder, config)


def read_mappers(
    folder: Path, lm: Any, settings: ClipCapConfig, prefixes: list[str]
) -> dict[str, nn.Module]:
    """Read the mapper of each prefix; PrefixModelError where its weights do not fit the others."""
    mappers = {}
    for name in prefixes:
        mappers[name] = empty_mapper(lm, settings)
        load_mapper(mappers[name], folder / MAPPERS / f"{name}.safetensors")
    return mappers


def empty_mapper(lm: Any, settings: ClipCapConfig) -> nn.Module:
    """Return a mapper without weights, which would only be drawn to be overwritten."""
    width = lm.get_input_embeddings().weight.shape[1]
    with torch.device("meta"):
        return build_mapper(settings, width)


def _read_back(model: "ClipCap", folder: Path) -> None:
    """Raise PrefixModelError unless `read_folder` would find the same model in a folder."""
    metadata = CLIPCAP.read_config(folder)
    settings, prefixes, default = _settings(metadata, folder / CONFIG)
    if (settings, prefixes, default) != (model.config, model.prefixes, model.prefix_name):
        raise PrefixModelError(f"{folder / CONFIG} reads otherwise than it was written")
    read_tokenizer(folder / LANGUAGE_MODEL, metadata.get("tokenizer"))
    check_language_model(model.lm, None, folder / LANGUAGE_MODEL)
    for name, mapper in read_mappers(folder, model.lm, settings, prefixes).items():
        check_same_weights(mapper, model.mappers[name], folder / MAPPERS / f"{name}.safetensors")


def _settings(config: dict[str, Any], path: Path) -> tuple[ClipCapConfig, list[str], str]:
    prefixes, default = config.get("prefixes"), config.get("default_prefix")
    if not isinstance(prefixes, list) or default not in prefixes:
        raise PrefixModelError(f"{path}: default_prefix {default!r} is not among {prefixes!r}")
    settings = config.get("clipcap")
    if not isinstance(settings, dict):
        raise PrefixModelError(f"{path} lacks the settings under 'clipcap'")
    try:
        names = [check_prefix_name(name) for name in prefixes]
        return ClipCapConfig.from_dict(settings), names, check_prefix_name(default)
    except PrefixModelError as error:
        raise PrefixModelError(f"{path}: {error}") from error


def check_device(device: str | torch.device) -> torch.device:
    """Return a device that this machine has; PrefixModelError otherwise."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)  # asks for it: a cuda:7 may be missing where there is a cuda
    except (RuntimeError, AssertionError, TypeError) as error:  # torch without CUDA asserts
        reason = str(error).split("\n")[0].split(". ")[0]  # torch goes on for pages
        raise PrefixModelError(
            f"device {str(device)!r} can't be used ({reason}); use 'cpu', or 'cuda' if you have it"
        ) from error
    if found.type == "meta":
        raise PrefixModelError("device 'meta' holds no weights; use 'cpu' or 'cuda'")
    return found
