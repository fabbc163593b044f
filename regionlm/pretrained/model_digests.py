"""Digests of the files of models and embedders on this machine.

They are part of a run's settings, so that a resumed run can't use another model of the same name.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regionlm.pretrained.bundle import SHIPPED
from regionlm.pretrained.file_digests import file_digest, folder_digest
from regionlm.pretrained.presets import PRESETS, models_folder


def model_digest(name: str | Path) -> str:
    """Digest of the folder of a bundle that ships, a preset or a local model; "" for a hub id.

    Raises:
        InputError: a file can't be read.
    """
    if name in SHIPPED:
        return path_digest(SHIPPED[str(name)])
    return path_digest(models_folder() / name if name in PRESETS else name)


def option_digests(options: Mapping[str, Any]) -> dict[str, str]:
    """Digests of files in an embedder's options, such as a checkpoint, as ``embedder.OPTION``.

    Raises:
        InputError: a file can't be read.
    """
    return {
        f"embedder.{name}": path_digest(value)
        for name, value in options.items()
        if isinstance(value, str | Path) and os.path.isfile(value)
    }


def path_digest(value: str | Path) -> str:
    """Short digest of a file or folder; "" for anything else, such as a tag or a hub id.

    Raises:
        InputError: a file can't be read.
    """
    if os.path.isdir(value):  # unlike Path.is_dir, it accepts any text
        return folder_digest(Path(value))
    return file_digest(Path(value))[:16] if os.path.isfile(value) else ""
