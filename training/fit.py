"""Train a prefix model on pairs, in a folder from which a stopped run resumes."""

from __future__ import annotations

import errno
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from prefix_models.base import PrefixModel
from regionlm.distributed.compat import interruptible, mistake, mistakes_named
from regionlm.distributed.process_group import close_at_exit
from regionlm.distributed.rank import is_first_process, note_rank
from regionlm.distributed.signals import StopSignals
from regionlm.distributed.thread_counts import threads_each, threads_restored
from regionlm.errors import InputError
from regionlm.extras import extra
from regionlm.files import unwritable
from training.checkpoints import Checkpoints, RunStopped
from training.curve import LossCurve, read_curve
from training.fit_settings import Recipe
from training.objectives import (
    CaptionLoss,
    Objective,
    OriginalClipCapLoss,
    original_max_tokens,
)
from training.prefix import PrefixTrainingModule
from training.step_batches import PairDataset
from training.training_folder import TrainingFolder, step_of

with extra("train"):
    import lightning as L
    from lightning.pytorch.callbacks import WeightAveraging
    from lightning.pytorch.utilities.exceptions import MisconfigurationException


_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES)


@dataclass(frozen=True)
class Fitted:
    """The end of a run.

    steps: number of steps, of all starts. loss, val_loss: last logged losses in nats per token;
    None if there was none. processes, threads: number of processes, and of threads in each.
    """

    steps: int
    loss: float | None
    val_loss: float | None
    processes: int
    threads: int
    is_first_process: bool


def fit_pairs(
    model: PrefixModel,
    recipe: Recipe,
    train: PairDataset,
    validation: PairDataset | None,
    folder: TrainingFolder,
    options: Mapping[str, Any],
) -> Fitted:
    """Train `model` in place, starting from the last checkpoint of the folder if there is one.

    Args:
        model: the prefix model.
        recipe: how to train.
        train, validation: pairs, without those that `training.texts` finds unusable.
        folder: for checkpoints and the loss curve.
        options: arguments of Lightning's Trainer that `training.lightning_options` accepts.

    Raises:
        InputError: recipe and data do not fit together, or the checkpoint is of another model.
        PrefixModelError: the model can't read a text, or the loss is not finite.
        KeyboardInterrupt: SIGINT (Ctrl-C) or SIGTERM; the finished steps are saved.
    """
    try:
        return _fit(model, recipe, train, validation, folder, options)
    except BaseException:
        folder.discard_if_unused()
        raise


def _fit(
    model: PrefixModel,
    recipe: Recipe,
    train: PairDataset,
    validation: PairDataset | None,
    folder: TrainingFolder,
    options: Mapping[str, Any],
) -> Fitted:
    module = PrefixTrainingModule(
        model, recipe, train, validation, _objective(model, recipe, train)
    )
    curve = LossCurve(folder.curve)
    signals = StopSignals(is_first_process)
    trainer = _new_trainer(module, recipe, folder, curve, options, signals)
    last = folder.last_checkpoint()
    curve.continue_from(step_of(last))
    threads = module.threads = threads_each(trainer.num_devices)
    with signals, threads_restored():
        _run(trainer, module, last, folder.folder)
    if not module.started:  # the run was finished; Lightning then skips the end of training
        for callback in _as_list(options.get("callbacks")):
            if isinstance(callback, WeightAveraging):
                callback.on_train_end(trainer, module)
    model.eval()
    rows = read_curve(folder.curve)
    return Fitted(
        steps=trainer.global_step,
        loss=_last(rows, "loss"),
        val_loss=_last(rows, "val_loss"),
        processes=trainer.world_size,
        threads=threads,
        is_first_process=trainer.is_global_zero,
    )


def _objective(model: PrefixModel, recipe: Recipe, train: PairDataset) -> Objective:
    if not recipe.clipcap_original:
        return CaptionLoss(model)
    texts = (train[index][1] for index in range(len(train)))
    return OriginalClipCapLoss(model, original_max_tokens(model, texts))


def _new_trainer(
    module: PrefixTrainingModule,
    recipe: Recipe,
    folder: TrainingFolder,
    curve: LossCurve,
    options: Mapping[str, Any],
    signals: StopSignals,
) -> L.Trainer:
    options, validates = dict(options), module.validation_pairs is not None
    callbacks, loggers = (_as_list(options.pop(name, None)) for name in ("callbacks", "logger"))
    every = min(recipe.validate_every, module.steps)
    checkpoints = Checkpoints(folder, recipe, every if validates else None, signals)
    micro = options.get("accumulate_grad_batches") or 1
    defaults = {"enable_model_summary": False, "log_every_n_steps": min(50, module.steps)}
    with mistakes_named("trainer"):
        trainer = L.Trainer(
            **{**defaults, **options},
            callbacks=[*callbacks, checkpoints],
            logger=[curve, *loggers],
            max_steps=module.steps,
            max_epochs=-1,
            limit_val_batches=1.0 if validates else 0,
            val_check_interval=every * micro if validates else None,
            check_val_every_n_epoch=None if validates else 1,
            num_sanity_val_steps=0,
            use_distributed_sampler=False,
        )
    note_rank(trainer.global_rank)
    close_at_exit()
    return trainer


def _run(trainer: L.Trainer, module: PrefixTrainingModule, last: Path | None, folder: Path) -> None:
    try:
        with interruptible(trainer):
            trainer.fit(module, ckpt_path=last, weights_only=True)
    except RunStopped as stop:
        raise KeyboardInterrupt(f"{stop}; repeat the command to resume") from None
    except OSError as error:
        if error.errno not in _NO_ROOM:
            if module.started:
                raise
            raise mistake("trainer", error) from error
        raise unwritable(folder, error) from error
    except (MisconfigurationException, ImportError) as error:
        if module.started:
            raise
        raise mistake("trainer", error) from error
    except (RuntimeError, KeyError, UnpicklingError) as error:
        if last is None or module.started:
            raise
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{last}: does not continue this run ({reason}); delete it to start anew"
        ) from error


def _as_list(value: Any) -> list[Any]:
    if value is None or isinstance(value, bool):
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _last(rows: list[dict[str, float]], name: str) -> float | None:
    return next((row[name] for row in reversed(rows) if name in row), None)
