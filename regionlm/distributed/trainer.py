"""Run a `PredictModule` on any number of processes, which all learn how the run ended."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

from regionlm.distributed.compat import interruptible, mistakes_named
from regionlm.distributed.items import USERS_ERRORS
from regionlm.distributed.predict_module import PredictModule
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

# Processes wait for the slowest one, which may take hours longer; the default is minutes.
_PATIENCE = timedelta(days=7)


def new_trainer(
    accelerator: str, devices: int | list[int], *, num_nodes: int = 1, strategy: str = "auto"
) -> L.Trainer:
    """Lightning's trainer for a `PredictModule`.

    Args:
        accelerator, devices, num_nodes, strategy: arguments of Lightning's Trainer. Strategy
            ``"auto"`` stands for ddp with more than one process.

    Raises:
        InputError: this machine does not have these devices.
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
            # Otherwise a single process, unlike several, would load its models in inference mode.
            # torch has other kernels for such weights, with other last digits.
            inference_mode=False,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,  # the module has its own
        )
    note_rank(trainer.global_rank)
    close_at_exit()
    return trainer


def device_count(accelerator: str, devices: int | str) -> int:
    """Number of devices of this machine that Lightning takes for "auto", -1 or "2".

    Raises:
        InputError: this machine does not have these devices.
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
    """Process all items that have no answer yet; then the first process finishes the run.

    Args:
        trainer: made by `new_trainer`.
        module: what to do with the items.
        finish: called in the first process when all answers are there.
        folder: locked for this run until it has finished; see `held`.

    Returns:
        In every process, what `finish` returned.

    Raises:
        InputError, ModelError, PrefixModelError: the error of any process, or of `finish`, raised
            in every process. Also InputError in the first process: another run uses the folder.
        KeyboardInterrupt: SIGINT (Ctrl-C) or SIGTERM; all processes finish their current item
            first.
    """
    with ExitStack() as stack:
        if folder is not None and trainer.is_global_zero:
            stack.enter_context(held(folder))
        return _predict_items(trainer, module, finish)


def _predict_items(
    trainer: L.Trainer, module: PredictModule, finish: Callable[[], Result]
) -> Result:
    # If the signal raised at once, Lightning would kill the other processes, and gloo's threads
    # may abort the first process when its peers are gone.
    signals = StopSignals(lambda: trainer.local_rank == 0, module.interrupt)
    module.threads = prediction_threads()
    with threads_restored(), signals, interruptible(trainer):
        trainer.predict(module, return_predictions=False)
    broadcast = trainer.strategy.broadcast
    errors = [broadcast(module.error, src=rank) for rank in range(trainer.world_size)]
    error = next((error for error in errors if error is not None), None)
    if error is None and module.journal.stopped:  # the signal came after its process had finished
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
