"""Save and load a prefix model's language model, adapters and tokenizer, and identify them.

```
language_model/           config.json, model.safetensors, tokenizer files, in transformers' format
language_model/adapter/   LoRA weights in peft's format, if the language model has any
```
"""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

from prefix_models.errors import PrefixModelError, refusing
from prefix_models.folders import CONFIG
from prefix_models.generation import tokens_of
from prefix_models.lm import adapter_files
from prefix_models.lm.adapters import is_adapted, without_adapters
from prefix_models.lm.calling import trust
from prefix_models.lm.outline import base_of
from prefix_models.lm.read_back import check_named, check_stored
from prefix_models.lm.strict_loading import load_strictly, no_progress_bars, revision_of

LANGUAGE_MODEL, ADAPTER = "language_model", "adapter"
_PROBE = "A red Cat's  caf\u00e9, (2 owls) on snow .\n\tIs it? \u96ea!"
_HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


# --- metadata


def describe_tokenizer(tokenizer: Any) -> dict[str, Any]:
    """Return what tells tokenizers apart: their number of tokens and a digest.

    The digest covers the vocabulary with its ids, and the tokens of a probe text.
    """
    ids = tokenizer(_PROBE, add_special_tokens=False)["input_ids"]
    vocabulary = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    seen = json.dumps([vocabulary, ids])
    return {"tokens": tokens_of(tokenizer), "sha256": hashlib.sha256(seen.encode()).hexdigest()}


def describe_language_model(lm: Any) -> dict[str, Any]:
    """Return the properties of a language model that a prefix model depends on."""
    rows, width = lm.get_input_embeddings().weight.shape
    kind = lm.config.model_type
    return {"model_type": kind, "hidden_size": width, "vocabulary": rows, ADAPTER: is_adapted(lm)}


def check_trained_with(what: str, wanted: object, found: Mapping[str, Any], folder: Path) -> None:
    """Raise PrefixModelError, showing both values, if the metadata `wanted` differs from `found`.

    Old folders have no such metadata; only what is there is compared.
    """
    for name, value in found.items():
        if isinstance(wanted, dict) and wanted.get(name, value) != value:
            raise PrefixModelError(
                f"{folder / CONFIG}: trained with another {what} ({name} {_short(wanted[name])}) "
                f"than the one here ({name} {_short(value)}); the parts belong to different models"
            )


def _short(value: object) -> str:
    return f"{str(value)[:12]}..." if isinstance(value, str) and len(value) == 64 else str(value)


def reference_of(lm: Any) -> dict[str, Any]:
    """Return where transformers loaded the language model from, to load it again from there.

    Raises:
        PrefixModelError: it was built in memory, or its folder is gone.
    """
    base = base_of(lm)
    source = str(base.name_or_path or "")
    if source and Path(source).is_dir():
        return {"source": str(Path(source).resolve()), "revision": None}
    if not _HUB_ID.fullmatch(source):
        raise PrefixModelError(
            "language_model='reference' needs a language model that from_pretrained loaded from a "
            f"hub id or an existing folder, found one from {source!r}; use 'store'"
        )
    return {"source": source, "revision": revision_of(source)}


# --- files


def write_language_model(lm: Any, folder: Path, *, weights: bool = True) -> None:
    """Write the language model, if `weights`, and its adapters, if any.

    Raises:
        PrefixModelError: adapters that can't be saved, or adapters on quantised weights.
    """
    folder.mkdir(exist_ok=True)
    if weights:
        plain = without_adapters(lm) if is_adapted(lm) else lm
        with no_progress_bars():
            plain.save_pretrained(folder)
    if is_adapted(lm):
        adapter_files.write_adapter(lm, folder / ADAPTER)


def check_storable(lm: Any, reference: dict[str, Any] | None) -> None:
    """Raise PrefixModelError unless the model can be stored, or is the one in `reference`."""
    if reference is not None:
        check_named(lm, reference)
    elif is_adapted(lm):
        without_adapters(lm)


def check_language_model(lm: Any, reference: dict[str, Any] | None, folder: Path) -> None:
    """Raise PrefixModelError unless `write_language_model` wrote what is in memory.

    Args:
        lm: language model.
        reference: where it was loaded from, if the folder does not hold its weights.
        folder: the folder that was written.
    """
    if reference is not None:
        check_named(lm, reference)
    else:
        _require_weights(folder)
        check_stored(lm, folder)
    if is_adapted(lm):
        adapter_files.check_written(lm, folder / ADAPTER)


def read_language_model(folder: Path, dtype: torch.dtype | None = None) -> Any:
    """Read the language model that `write_language_model` wrote, without its adapters.

    All names and shapes must match. `dtype` None means as saved; it is applied here because a later
    `.to` would also round buffers such as the frequencies of rotary positions.
    """
    _require_weights(folder)
    noun = f"the language model in {folder}"
    weights = folder / "model.safetensors"
    lm = load_strictly(AutoModelForCausalLM, folder, noun, weights, dtype)
    trust(lm)  # only models that can be decoded are ever saved
    return lm


def _require_weights(folder: Path) -> None:
    require_file(folder / CONFIG)
    if not (folder / "model.safetensors.index.json").is_file():
        require_file(folder / "model.safetensors")


def read_referenced(reference: object, offline: bool, dtype: torch.dtype | None = None) -> Any:
    """Load the language model that a reference of `reference_of` names.

    Raises:
        PrefixModelError: it is missing or lacks weights.
    """
    source = reference.get("source") if isinstance(reference, dict) else None
    if not isinstance(source, str) or not source:
        raise PrefixModelError("the folder refers to its language model, but names no source")
    folder = Path(source)
    if folder.is_absolute() and not folder.is_dir():
        raise PrefixModelError(
            f"the language model was in {source}, which no longer exists; give lm="
        )
    options = {"revision": reference.get("revision")} if isinstance(reference, dict) else {}
    local = offline or folder.is_absolute()
    where = f"the language model {source}" + (" in this machine's files" if local else "")
    return load_strictly(
        AutoModelForCausalLM, source, where, source, dtype, local_files_only=local, **options
    )


def restore_adapters(
    lm: Any, folder: Path, metadata: object, dtype: torch.dtype | None = None
) -> Any:
    """Return the language model with its saved adapters, if the metadata says there are any."""
    if not isinstance(metadata, dict) or not metadata.get(ADAPTER):
        return lm
    if is_adapted(lm):
        raise PrefixModelError(
            f"{folder} holds adapters, but the given language model already has some; give it "
            "without adapters"
        )
    return adapter_files.read_adapter(lm, folder / ADAPTER, dtype)


def read_tokenizer(folder: Path, metadata: object) -> Any:
    """Read the tokenizer in a folder; it must match the metadata."""
    require_file(folder / "tokenizer.json")
    with refusing(PrefixModelError, f"cannot read the tokenizer in {folder}"):
        tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    check_trained_with("tokenizer", metadata, describe_tokenizer(tokenizer), folder.parent)
    return tokenizer


def require_file(path: Path) -> None:
    """Raise PrefixModelError unless the file exists."""
    if not path.is_file():
        raise PrefixModelError(f"missing file: {path}")
