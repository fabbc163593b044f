"""Any kind of prefix model from its folder."""

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
    """Read what any prefix model's `save_pretrained` wrote, in eval mode.

    Args:
        folder: a local folder; its config.json says of which kind it is.
        prefix: name of the mapper to use, for kinds that hold several; None means the default.
        device: where to put the model.
        dtype: of all weights; None means as saved.
        offline: never touch the network. Only a folder that names its language model instead of
            holding it ever does.

    Raises:
        PrefixModelError: unknown kind; a file is missing, damaged or does not fit the others.
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
            f"{folder / CONFIG} has the format {kind!r}, no prefix model's; known ones are "
            f"{CLIPCAP.format!r} and {PROJECTOR.format!r}"
        )
    # None, too: that reader says what is wrong with the folder.
    return ClipCap.from_pretrained(folder, prefix=prefix, device=device, dtype=dtype)


def _format(folder: Path) -> object:
    """Return what config.json says; None where it says nothing or cannot be read."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return config.get("format") if isinstance(config, dict) else None
