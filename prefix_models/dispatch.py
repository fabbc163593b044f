"""Load a prefix model of any kind from its folder."""

import json
from pathlib import Path

import torch

from prefix_models.base import PrefixModel
from prefix_models.errors import PrefixModelError
from prefix_models.folders import CONFIG


def load_prefix_model(
    folder: str | Path,
    *,
    prefix: str | None = None,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
    offline: bool = False,
) -> PrefixModel:
    """Load a prefix model that `save_pretrained` wrote, in eval mode.

    Args:
        folder: a local folder; its config.json names the kind of model.
        prefix: name of the mapper to use, if the model has several; None means the default.
        device: where to put the model.
        dtype: of all weights; None means as saved.
        offline: never use the network. It is needed only if the folder refers to a language model
            instead of containing it.

    Raises:
        PrefixModelError: the kind is unknown, or a file is missing, damaged or inconsistent with
            the others.
    """
    from prefix_models.clipcap.folder import CLIPCAP
    from prefix_models.clipcap.model import ClipCap
    from prefix_models.projector.folder import PROJECTOR
    from prefix_models.projector.model import ProjectorModel

    folder = Path(folder)
    kind = _format(folder)
    if kind == PROJECTOR.format:
        if prefix is not None:
            raise PrefixModelError(
                f"no prefix named {prefix!r}: {folder} is a projector model, which has none"
            )
        return ProjectorModel.from_pretrained(folder, device=device, dtype=dtype, offline=offline)
    if kind not in (None, CLIPCAP.format):
        raise PrefixModelError(
            f"{folder / CONFIG} has the format {kind!r}, which is not a prefix model's; expected "
            f"{CLIPCAP.format!r} or {PROJECTOR.format!r}"
        )
    # Also for None: ClipCap's reader reports what is wrong with the folder.
    return ClipCap.from_pretrained(folder, prefix=prefix, device=device, dtype=dtype)


def _format(folder: Path) -> object:
    """Return the format in config.json; None if there is none or the file can't be read."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config.get("format") if isinstance(config, dict) else None
