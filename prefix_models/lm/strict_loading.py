"""Load models of transformers, from folders or the hub, without inventing any weight.

This is the only module that knows how transformers reports the weights it has loaded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging as transformers_logging

from prefix_models.errors import PrefixModelError, refusing


def load_strictly(
    kind: Any,
    source: str | Path,
    noun: str,
    weights: str | Path,
    dtype: torch.dtype | None,
    **options: Any,
) -> Any:
    """Load a model of transformers; no weight may be missing, unknown or of the wrong shape.

    Args:
        kind: class with `from_pretrained`.
        source: folder or hub id.
        noun: what to call the model in messages.
        weights: what to call its weights in messages.
        dtype: None means as saved.
        **options: of `from_pretrained`; by default local files only. Weights are safetensors; only
            in a local folder without any they may be pickles, from which transformers reads
            nothing but tensors.

    Raises:
        PrefixModelError: the model is missing or damaged, or lacks weights.
    """
    with refusing(PrefixModelError, f"cannot read {noun}"), no_progress_bars():
        model, report = kind.from_pretrained(
            source,
            dtype=dtype or "auto",
            use_safetensors=not _is_pickled(Path(source)),
            # Reported below in one line; transformers would raise a page of text.
            ignore_mismatched_sizes=True,
            output_loading_info=True,
            **{"local_files_only": True, **options},
        )
    problem = _problem(report)
    if problem:
        raise PrefixModelError(f"{weights}{problem}")
    return model


def _is_pickled(folder: Path) -> bool:
    return folder.is_dir() and not any(folder.glob("*.safetensors"))


def _problem(report: Mapping[str, Any]) -> str:
    """What is wrong with the loaded weights, as text to follow their name; empty if nothing."""
    for name, found, wanted in sorted(report["mismatched_keys"]):
        return f": {name} has shape {list(found)}, config.json needs {list(wanted)}"
    missing, unexpected = sorted(report["missing_keys"]), sorted(report["unexpected_keys"])
    if missing or unexpected:
        lacking = f"missing {some(missing)}, unexpected {some(unexpected)}"
        return f" does not fit config.json: {lacking}"
    return ""


def revision_of(source: str) -> str | None:
    """The commit of a hub id in this machine's cache; None if it is not there."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(source, "config.json")
    # .../snapshots/COMMIT/config.json, as the hub documents its cache
    return Path(found).parent.name if isinstance(found, str) else None


def check_device(device: str | torch.device) -> torch.device:
    """Return a device of this machine; PrefixModelError if it has no such device."""
    try:
        found = torch.device(device)
        torch.empty(0, device=found)  # fails if it is missing: there may be a cuda but no cuda:7
    except (RuntimeError, AssertionError, TypeError) as error:  # torch without CUDA asserts
        reason = str(error).split("\n")[0].split(". ")[0]  # torch's message has pages
        raise PrefixModelError(
            f"device {str(device)!r} can't be used ({reason}); use 'cpu', or 'cuda' if you have it"
        ) from error
    if found.type == "meta":
        raise PrefixModelError("device 'meta' holds no weights; use 'cpu' or 'cuda'")
    return found


def some(names: list[str]) -> str:
    """Return the first few of many names, for a message."""
    return "nothing" if not names else ", ".join(names[:5]) + (" ..." if len(names) > 5 else "")


@contextmanager
def no_progress_bars() -> Iterator[None]:
    """Keep transformers from drawing progress bars; a library call should be silent."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()
