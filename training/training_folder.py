"""The output folder of a training run: its settings, loss curve, checkpoints and bundle."""

from __future__ import annotations

import contextlib
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from regionlm.distributed.rank import is_first_process
from regionlm.distributed.run_folder import SETTINGS, held, open_folder
from training.curve import read_curve

CURVE, CHECKPOINTS, BUNDLE = "curve.csv", "checkpoints", "bundle"


class TrainingFolder:
    """A new folder, or the folder of a stopped run with the same settings.

    All processes of a run may open it at the same time.

    Args:
        folder: created if missing.
        settings: JSON values that the weights depend on.

    Raises:
        InputError: the folder holds a run with other settings, or other files, or is not writable.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any]) -> None:
        self.folder = folder
        open_folder(folder, settings, lambda name: name.startswith("."))

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Lock the folder against other runs while the first process works in it; see
        `regionlm.distributed.run_folder.held`, also for what it raises."""
        with contextlib.ExitStack() as stack:
            if is_first_process():
                stack.callback(self._remove_if_empty)
                stack.enter_context(held(self.folder))
            yield

    def _remove_if_empty(self) -> None:
        with contextlib.suppress(OSError):  # missing, or it holds files
            self.folder.rmdir()

    @property
    def curve(self) -> Path:
        """The file of the loss curve."""
        return self.folder / CURVE

    @property
    def checkpoints(self) -> Path:
        """The folder of the last checkpoint; while a newer one is written, it holds both."""
        return self.folder / CHECKPOINTS

    @property
    def bundle(self) -> Path:
        """The folder of the trained bundle."""
        return self.folder / BUNDLE

    def checkpoint_at(self, step: int) -> Path:
        """The path of the checkpoint after `step` steps."""
        return self.checkpoints / f"step={step:09d}.ckpt"

    def last_checkpoint(self) -> Path | None:
        """The newest complete checkpoint: a file, or a folder if it is sharded."""
        for path in sorted(self.checkpoints.glob("*.ckpt"), reverse=True):
            # torch writes zip files, whose directory is at the end.
            if path.is_dir() or zipfile.is_zipfile(path):
                return path
        return None

    def discard_if_unused(self) -> None:
        """Remove the folder of a run without steps, so that other settings may use it."""
        if read_curve(self.curve) or self.last_checkpoint() is not None:
            return
        for path in (self.curve, self.folder / SETTINGS):
            path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # missing, or it holds other files
            self.checkpoints.rmdir()
        self._remove_if_empty()


def step_of(checkpoint: Path | None) -> int:
    """Number of steps of a checkpoint, from its name; 0 for None."""
    return 0 if checkpoint is None else int(checkpoint.stem.removeprefix("step="))
