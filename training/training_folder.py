"""The output folder of a training run: its settings, loss curve, checkpoints and bundle."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from regionlm.distributed.run_folder import SETTINGS, open_folder
from training.curve import read_curve

CURVE, CHECKPOINTS, BUNDLE = "curve.csv", "checkpoints", "bundle"


class TrainingFolder:
    """A new folder, or that of the same run, stopped before.

    All processes of a run may open it at once.

    Args:
        folder: made if missing.
        settings: JSON values that decide the weights; a folder of other settings is refused.

    Raises:
        InputError: the folder holds a run of other settings, or something that is no run, or can't
            be written.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        open_folder(folder, settings, lambda name: name.startswith("."))

    @property
    def curve(self) -> Path:
        """The loss at each logged step."""
        return self.folder / CURVE

    @property
    def checkpoints(self) -> Path:
        """The last checkpoint; while a newer one is being written, both."""
        return self.folder / CHECKPOINTS

    @property
    def bundle(self) -> Path:
        """What the run is for."""
        return self.folder / BUNDLE

    def checkpoint_at(self, step: int) -> Path:
        """Where the checkpoint after `step` steps goes."""
        return self.checkpoints / f"step={step:09d}.ckpt"

    def last_checkpoint(self) -> Path | None:
        """The newest checkpoint that was written to its end: a file, or a sharded one's folder."""
        for path in sorted(self.checkpoints.glob("*.ckpt"), reverse=True):
            # The directory of a zip file is its end, and torch writes zip files.
            if path.is_dir() or zipfile.is_zipfile(path):
                return path
        return None

    def discard_if_unused(self) -> None:
        """Leave nothing behind where no step was done, so that other settings may be tried."""
        if read_curve(self.curve) or self.last_checkpoint() is not None:
            return
        for path in (self.curve, self.folder / SETTINGS):
            path.unlink(missing_ok=True)
        for folder in (self.checkpoints, self.folder):
            with contextlib.suppress(OSError):  # not there, or something else is in it
                folder.rmdir()


def step_of(checkpoint: Path | None) -> int:
    """Steps done at a checkpoint, as its name says; 0 without one."""
    return 0 if checkpoint is None else int(checkpoint.stem.removeprefix("step="))
