"""Digests of the files that a model or an embedder is made of, where they lie on this machine.

With them in its settings, a run that was stopped does not go on with another model of that name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regionlm.pretrained.bundle import MINI
from regionlm.pretrained.file_digests import file_digest, folder_digest
from regionlm.pretrained.presets import PRESETS, models_folder


def model_digest(name: str | Path) -> str:
    """Of the folder that mini, a preset or a folder's name stands for; "" for a hub's name.

    Raises:
        InputError: a file can't be read.
    """
    if name == "mini":
        return path_digest(MINI)
    return path_digest(models_folder() / name if name in PRESETS else name)


def option_digests(options: Mapping[str, Any]) -> dict[str, str]:
    """Of the files among an embedder's options, such as a checkpoint, by ``embedder.OPTION``.

    Raises:
        InputError: a file can't be read.
    """
    return {
        f"embedder.{name}": path_digest(value)
        for name, value in options.items()
        if isinstance(value, str | Path) and os.path.isfile(value)
    }


def path_digest(value: str | Path) -> str:
    """Short digest of a file or folder; "" for anything else, such as a tag or a hub's name.

    Raises:
        InputError: a file can't be read.
    """
    if os.path.isdir(value):  # which, unlike Path's, takes any text
        return folder_digest(Path(value))
    return file_digest(Path(value))[:16] if os.path.isfile(value) else ""
