"""Run an `PredictModule` on any number of processes, and tell all of them how it ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from regionlm.distributed.compat import interruptible, mistakes_named
from regionlm.distributed.predict_module import USERS_ERRORS, PredictModule
from regionlm.distributed.process_group import close_at_exit
from regionlm.distributed.rank import note_rank
from regionlm.distributed.run_folder import held
from regionlm.distributed.signals import StopSignals
from regionlm.distributed.thread_counts import prediction_threads, threads_restored
from regionlm.extras import extra

with extra("bulk"):
    import lightning as L
    from lightning.pytorch.strategies import DDPStrategy


Result = TypeVar("Result")

# Processes wait for the slowest, and shares may differ by hours; the default is minutes.
_PATIENCE = timedelta(days=7)


def new_trainer(
    accelerator: str, devices: int | list[int], *, num_nodes: int = 1, strategy: str = "auto"
) -> L.Trainer:
    """Lightning's trainer for an `PredictModule`.

    Args:
        accelerator, devices, num_nodes, strategy: as Lightning names them; strategy ``"auto"``
            takes ddp for more than one process.

    Raises:
        InputError: this machine has no such devices.
    """
    count = devices if isinstance(devices, int) else len(devices)
    distributed = strategy == "ddp" or (strategy == "auto" and count * num_nodes != 1)
    with mistakes_named("devices"):
        trainer = L.Trainer(
            accelerator=accelerator,
            devices=devices,
            num_nodes=num_nodes,
            strategy=DDPStrategy(timeout=_PATIENCE) if distributed else strategy,
            use_distributed_sampler=False,  # it would repeat items to make shares equal
            # Else a single process, and only that, reads its models in inference mode, and torch
            # takes other kernels for such weights: other last digits.
            inference_mode=False,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,  # the module shows its own
        )
    note_rank(trainer.global_rank)
    close_at_exit()
    return trainer


def device_count(accelerator: str, devices: int | str) -> int:
    """How many devices of this machine Lightning takes for "auto", -1, "2".

    Raises:
        InputError: this machine has no such devices.
    """
    with mistakes_named("devices"):
        return L.Trainer(
            accelerator=accelerator,
            devices=devices,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        ).num_devices


def predict_items(
    trainer: L.Trainer,
    module: PredictModule,
    finish: Callable[[], Result],
    *,
    folder: Path | None = None,
) -> Result:
    """Answer what is not answered yet; then let the first process finish the run.

    Args:
        trainer: of `new_trainer`.
        module: what to do.
        finish: called by the first process, when all answers are there.
        folder: that is this run's alone until it has finished.

    Returns:
        What `finish` returned, in every process.

    Raises:
        InputError, ModelError, PrefixModelError: what stopped any of the processes, or `finish`;
            raised in every process. InputError, too, in the first one: another run has the folder.
        KeyboardInterrupt: SIGINT (Ctrl-C) or SIGTERM; all processes finish the item at hand first.
    """
    with ExitStack() as stack:
        if folder is not None and trainer.is_global_zero:
            stack.enter_context(held(folder))
        return _predict_items(trainer, module, finish)


def _predict_items(
    trainer: L.Trainer, module: PredictModule, finish: Callable[[], Result]
) -> Result:
    # To raise at once would leave it to Lightning to kill the other processes, and gloo's threads
    # may abort the first one when their peers are gone.
    signals = StopSignals(lambda: trainer.local_rank == 0, module.interrupt)
    module.threads = prediction_threads()
    with threads_restored(), signals, interruptible(trainer):
        trainer.predict(module, return_predictions=False)
    broadcast = trainer.strategy.broadcast
    errors = [broadcast(module.error, src=rank) for rank in range(trainer.world_size)]
    error = next((error for error in errors if error is not None), None)
    if error is None and module.journal.stopped:  # a signal came when its process had finished
        error = KeyboardInterrupt()
    result: Result | None = None
    if trainer.is_global_zero:
        try:
            if error is None:
                result = finish()
        except USERS_ERRORS as failure:
            error = failure
        if error is not None:
            module.journal.discard_if_empty()
    result, error = broadcast((result, error))
    if error is not None:
        raise error
    return result  # type: ignore[return-value]
