"""A ClipCap model as a folder.

```
config.json               settings, names of the prefixes, which is the default
language_model/           config.json, model.safetensors, tokenizer files, as transformers writes
mappers/<prefix>.safetensors
```
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, AutoTokenizer
from transformers.utils import logging as transformers_logging

from prefix_models.config import ClipCapConfig, check_prefix_name
from prefix_models.described_folder import CONFIG, FolderKind
from prefix_models.errors import PrefixModelError
from prefix_models.mappers import build_mapper

if TYPE_CHECKING:
    from prefix_models.clipcap import ClipCap

CLIPCAP = FolderKind("ClipCap model", "regionlm/clipcap", 1, PrefixModelError)
LANGUAGE_MODEL, MAPPERS = "language_model", "mappers"


def save_folder(model: "ClipCap", folder: Path) -> None:
    """Write `model` to `folder`, whole or not at all; see ClipCap.save_pretrained."""
    with CLIPCAP.replacing(folder) as staging:
        _write(model, staging)


def load_folder(
    folder: Path, device: str | torch.device = "cpu", dtype: torch.dtype | None = None
) -> "ClipCap":
    """Read a model that `save_folder` wrote; see ClipCap.from_pretrained."""
    from prefix_models.clipcap import ClipCap

    device = _check_device(device)
    settings, prefixes, default = _read_config(folder)
    tokenizer = _read_tokenizer(folder / LANGUAGE_MODEL)
    lm = _read_language_model(folder / LANGUAGE_MODEL)
    try:
        with torch.device("meta"):  # no random weights only to overwrite them
            model = ClipCap(lm, tokenizer, settings, prefix=default)
    except PrefixModelError as error:
        raise PrefixModelError(f"{folder}: {error}") from error
    model.mappers = nn.ModuleDict()
    for name in prefixes:
        with torch.device("meta"):
            mapper = build_mapper(settings, lm.get_input_embeddings().weight.shape[1])
        load_mapper(mapper, folder / MAPPERS / f"{name}.safetensors")
        model.mappers[name] = mapper
    return model.to(device=device, dtype=dtype).eval()


def load_mapper(mapper: nn.Module, path: Path) -> None:
    """Fill a mapper from a safetensors file; names and shapes must match exactly."""
    _require(path)
    try:
        weights = load_file(path)
    except (SafetensorError, OSError) as error:
        raise PrefixModelError(f"{path} is damaged or not a safetensors file: {error}") from error
    check_weights(mapper, weights, str(path))
    mapper.load_state_dict(weights, strict=True, assign=True)


def check_weights(module: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Raise PrefixModelError unless `weights` has the module's names and shapes."""
    expected = module.state_dict()
    missing, unexpected = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or unexpected:
        raise PrefixModelError(
            f"{origin} does not fit the model: missing {_some(missing)}, "
            f"unexpected {_some(unexpected)}"
        )
    for name, tensor in expected.items():
        if tensor.shape != weights[name].shape:
            raise PrefixModelError(
                f"{origin}: {name} has shape {list(weights[name].shape)}, the model's settings ask "
                f"for {list(tensor.shape)}"
            )


def _some(names: list[str]) -> str:
    return "nothing" if not names else ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


def _write(model: "ClipCap", folder: Path) -> None:
    (folder / MAPPERS).mkdir()
    for name, mapper in model.mappers.items():
        weights = {key: value.contiguous() for key, value in mapper.state_dict().items()}
        save_file(weights, folder / MAPPERS / f"{name}.safetensors", metadata={"format": "pt"})
    with _no_progress_bars():
        model.lm.save_pretrained(folder / LANGUAGE_MODEL)
    model.tokenizer.save_pretrained(folder / LANGUAGE_MODEL)
    config = {
        "prefixes": model.prefixes,
        "default_prefix": model.prefix_name,
        "clipcap": model.config.to_dict(),
    }
    CLIPCAP.write_config(folder, config)


def _read_config(folder: Path) -> tuple[ClipCapConfig, list[str], str]:
    config, path = CLIPCAP.read_config(folder), folder / CONFIG
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


def _read_tokenizer(folder: Path) -> Any:
    _require(folder / "tokenizer.json")
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # the tokenizers library raises bare Exception
        raise PrefixModelError(f"cannot read the tokenizer in {folder}: {error}") from error


def _read_language_model(folder: Path) -> Any:
    _require(folder / CONFIG)
    if not (folder / "model.safetensors.index.json").is_file():
        _require(folder / "model.safetensors")
    try:
        with _no_progress_bars():
            lm, report = AutoModelForCausalLM.from_pretrained(
                folder,
                local_files_only=True,
                use_safetensors=True,
                # Reported below, with both shapes, instead of raised with a page of text.
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except Exception as error:  # damaged files surface as many types, some of them private
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise PrefixModelError(
            f"cannot read the language model in {folder}: {reason[0]}"
        ) from error
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    for name, found, wanted in sorted(report["mismatched_keys"]):
        raise PrefixModelError(
            f"{folder / 'model.safetensors'}: {name} has shape {list(found)}, config.json asks for "
            f"{list(wanted)}"
        )
    if missing or unexpected:
        raise PrefixModelError(
            f"{folder / 'model.safetensors'} does not fit config.json: missing {_some(missing)}, "
            f"unexpected {_some(unexpected)}"
        )
    return lm


def _require(path: Path) -> None:
    if not path.is_file():
        raise PrefixModelError(f"missing file: {path}")


def _check_device(device: str | torch.device) -> torch.device:
    try:
        device = torch.device(device)
    except RuntimeError as error:
        raise PrefixModelError(f"unknown device {device!r}; use 'cpu' or 'cuda'") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise PrefixModelError(f"device {str(device)!r} asked for, but torch sees no CUDA device")
    return device


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing on the terminal; a library call should be silent."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
