"""What a stopped run goes on from."""

from __future__ import annotations

from typing import Any

from regionlm.extras import extra
from training.run_folder import RunFolder

with extra("train"):
    import lightning as L
    from lightning.pytorch.callbacks import Checkpoint


_STOPPED = "regionlm_stopped"


class Checkpoints(Checkpoint):
    """Keeps the newest checkpoint, so that going on from it is as never having stopped.

    Lightning's ModelCheckpoint saves before the validation of the same step, which a resumed run
    then leaves out, and with it what EarlyStopping would have counted. This one saves after it, and
    once more where a run ends; one that a callback has ended trains no further when loaded.

    Args:
        folder: of the run.
        every: steps from one checkpoint to the next.
        validate_every: steps from one validation to the next; None: there is none.
    """

    def __init__(self, folder: RunFolder, every: int, validate_every: int | None) -> None:
        self.folder, self.every, self.validate_every = folder, every, validate_every
        self._step, self._due = 0, False

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """The step that is on disk already."""
        self._step = trainer.global_step

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        """Save, unless a validation comes first; other callbacks have had their turn."""
        step = trainer.global_step
        is_new, self._step = step != self._step, step  # not so within an accumulated batch
        ends = trainer.should_stop or step == trainer.max_steps
        self._due = self._due or ends or (is_new and step % self.every == 0)
        if not self._validates(trainer):
            self._save(trainer)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Save what was put off, or the end."""
        self._due = self._due or trainer.should_stop
        self._save(trainer)

    def on_save_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Note whether a callback has ended the run."""
        checkpoint[_STOPPED] = bool(trainer.should_stop)

    def on_load_checkpoint(
        self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Let an ended run be; Lightning then leaves training out, as at the last step."""
        trainer.should_stop = checkpoint.get(_STOPPED, False)

    def _validates(self, trainer: L.Trainer) -> bool:
        if self.validate_every is None:
            return False
        return trainer.should_stop or trainer.global_step % self.validate_every == 0

    def _save(self, trainer: L.Trainer) -> None:
        if not self._due:
            return
        self._due = False
        path = self.folder.checkpoint_at(trainer.global_step)
        older = [found for found in self.folder.checkpoints.glob("*.ckpt") if found != path]
        trainer.save_checkpoint(path, weights_only=False)  # unsaid, it is remarked on
        for found in older:
            trainer.strategy.remove_checkpoint(found)
