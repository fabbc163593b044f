"""Checkpoints, from which a stopped run resumes."""

from __future__ import annotations

import time
from typing import Any

from regionlm.distributed.signals import StopSignals
from regionlm.extras import extra
from training.fit_settings import Recipe
from training.training_folder import TrainingFolder

with extra("train"):
    import lightning as L
    from lightning.pytorch.callbacks import Checkpoint


_STOPPED = "regionlm_stopped"


class RunStopped(Exception):
    """A signal asked the run to stop; what it had done is saved. step: how many steps that is."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


class Checkpoints(Checkpoint):
    """Keeps the newest checkpoint; a run that resumes from it is as if it had never stopped.

    Lightning's ModelCheckpoint saves before the validation of the same step. A resumed run then
    skips that validation, and EarlyStopping misses it. This callback saves after it, and once more
    at the end of a run; a run that a callback has ended trains no further when it is loaded.

    Args:
        folder: of the run.
        recipe: says how often to save, in steps and in minutes.
        validate_every: steps between validations; None: there are none.
        signals: once one was received, in any process, the run stops at the end of the step.

    Raises:
        RunStopped: in all processes, before the next step.
    """

    def __init__(
        self,
        folder: TrainingFolder,
        recipe: Recipe,
        validate_every: int | None,
        signals: StopSignals,
    ) -> None:
        self.folder, self.validate_every, self.signals = folder, validate_every, signals
        self.every, self.seconds = recipe.checkpoint_every, 60 * recipe.checkpoint_minutes
        self._step, self._due, self._stops = 0, False, False
        self._saved_at = 0.0

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Note the step that is on disk already."""
        self._step, self._saved_at = trainer.global_step, time.monotonic()
        # Lightning's own handler would stop the processes without a checkpoint.
        self.signals.install()

    def on_train_batch_start(self, trainer: L.Trainer, *rest: Any) -> None:
        """Stop, once the last step is saved and logged."""
        if self._stops:
            raise RunStopped(trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, *rest: Any) -> None:
        """Save, unless a validation comes first; other callbacks have had their turn."""
        step = trainer.global_step
        is_new, self._step = step != self._step, step  # False within an accumulated batch
        ends = trainer.should_stop or step == trainer.max_steps
        self._due = self._due or ends or (is_new and step % self.every == 0)
        if is_new:
            self._agree(trainer)
        if not self._validates(trainer):
            self._save(trainer)

    def _agree(self, trainer: L.Trainer) -> None:
        """Save everywhere if the time is up in the first process, or any process is to stop."""
        late = trainer.is_global_zero and time.monotonic() - self._saved_at >= self.seconds
        any_process = trainer.strategy.reduce_boolean_decision
        if any_process(late or self.signals.received, all=False):
            self._due = True
            self._stops = any_process(self.signals.received, all=False)

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
        self._saved_at = time.monotonic()
