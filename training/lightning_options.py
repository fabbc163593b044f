"""The `trainer` section: arguments of Lightning's Trainer, checked and instantiated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Any

from prefix_models.checks import PositiveCount, Range, check_value
from regionlm.cli.flags import UsageError
from regionlm.cli.values import Arguments, WrongArgument
from regionlm.distributed.rank import is_first_process
from regionlm.errors import InputError
from regionlm.extras import extra
from training.lightning_classes import is_described, make_described

with extra("train"):
    import lightning as L
    from lightning.pytorch import callbacks as lightning_callbacks
    from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint


# The recipe decides these, or they would make a run depend on more than its settings.
_TAKEN = {
    "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches",
    "fast_dev_run", "val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps",
    "enable_checkpointing", "use_distributed_sampler", "reload_dataloaders_every_n_epochs",
    "default_root_dir", "inference_mode", "barebones",
}  # fmt: skip
# Where a run happens and what it shows; these do not change its weights.
_PLACE = (
    "accelerator", "strategy", "devices", "num_nodes", "logger", "log_every_n_steps",
    "enable_progress_bar", "enable_model_summary", "profiler", "benchmark",
)  # fmt: skip
MACHINES = ("accelerator", "strategy", "devices", "num_nodes")
# These round all weights, including those that are not trained.
_ROUNDING = ("bf16-true", "16-true", "transformer-engine", "transformer-engine-float16")
# Callbacks that would overrule the recipe, and what to do instead.
_REFUSED = {
    lightning_callbacks.GradientAccumulationScheduler: "give trainer.accumulate_grad_batches",
    lightning_callbacks.Timer: "recipe.steps or recipe.epochs sets the length of a run",
    lightning_callbacks.BaseFinetuning: "recipe.trains sets what is trained",
    lightning_callbacks.ModelPruning: "the weights that it masks would not be trained",
    lightning_callbacks.LearningRateFinder: "give recipe.lr",
    lightning_callbacks.BatchSizeFinder: "give recipe.batch_size",
    lightning_callbacks.StochasticWeightAveraging: "take EMAWeightAveraging, which goes by steps",
}
_NUMBERS: dict[str, Any] = {
    "accumulate_grad_batches": PositiveCount,
    "log_every_n_steps": PositiveCount,
    "gradient_clip_val": Annotated[float, Range(0)],
}


def trainer_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check a `trainer` section, and create its callbacks, strategy and loggers.

    Raises:
        UsageError: an unknown key, a wrong value, or one that the recipe decides.
        InputError: a number out of range, a precision that rounds weights, or a class that refuses
            its arguments.
    """
    for name in given:
        if name in _TAKEN:
            raise UsageError(f"--trainer.{name}: the recipe decides it; leave it out")
    described = {name: value for name, value in given.items() if is_described(name, value)}
    plain = {name: value for name, value in given.items() if name not in described}
    try:
        options = Arguments(L.Trainer, _TAKEN).converted(plain)
    except WrongArgument as error:
        raise UsageError(f"--trainer.{error}") from error
    for name, kind in _NUMBERS.items():
        check_value(f"trainer.{name}", options.get(name), kind | None, InputError)
    options |= {name: make_described(name, value) for name, value in described.items()}
    _check_precision(options)
    _check_stopping(given.get("callbacks"), options.get("callbacks"))
    return options


def _check_precision(options: Mapping[str, Any]) -> None:
    plugins = options.get("plugins") or []
    plugins = plugins if isinstance(plugins, Sequence) else [plugins]
    for found in (options.get("precision"), *(getattr(one, "precision", None) for one in plugins)):
        if found in _ROUNDING:
            raise InputError(
                "trainer.precision: expected 32-true, bf16-mixed, 16-mixed or 64-true; found"
                f" {found}, which would round every weight of the bundle; take bf16-mixed"
            )


def _check_stopping(given: Any, made: Any) -> None:
    """Refuse an EarlyStopping that looks only at the end of the epoch, which is the whole run.

    given: descriptions of callbacks. made: the callbacks, in the same order.
    """
    for described, callback in zip(_as_list(given), _as_list(made), strict=True):
        arguments = described.get("init_args") if isinstance(described, Mapping) else None
        # The user's own callbacks may look whenever they like.
        is_own = isinstance(callback, EarlyStopping)
        if is_own and (arguments or {}).get("check_on_train_epoch_end"):
            raise InputError(
                f"trainer.callbacks: {type(callback).__name__} expected check_on_train_epoch_end"
                " false, found true: it would not look at its metric before the end of the run"
            )


def _as_list(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def check_callbacks(callbacks: Any, *, validates: bool) -> None:
    """Raise InputError for a callback that overrules the recipe, or monitors what is not logged.

    callbacks: of the trainer. validates: whether there are validation pairs.
    """
    for callback in _as_list(callbacks):
        name = f"trainer.callbacks: {type(callback).__name__}"
        for refused, instead in _REFUSED.items():
            if isinstance(callback, refused):
                raise InputError(f"{name} can't be used: {instead}")
        if isinstance(callback, EarlyStopping) and not validates:
            raise InputError(
                f"{name} looks at its metric after each validation; give validation pairs"
            )
        if isinstance(callback, EarlyStopping | ModelCheckpoint):
            _check_monitor(callback, name, validates)


def _check_monitor(callback: EarlyStopping | ModelCheckpoint, name: str, validates: bool) -> None:
    reported = ["loss", "lr", *(["val_loss"] if validates else [])]
    known = reported if isinstance(callback, EarlyStopping) else [*reported, "step", "epoch"]
    if callback.monitor is not None and callback.monitor not in known:
        raise InputError(
            f"{name} expected a monitor of {', '.join(known)}; found {callback.monitor!r}"
            + ("" if validates else "; val_loss needs validation pairs")
        )


def check_loggers(given: Any) -> None:
    """Raise InputError for a logger that can't write to its folder.

    given: loggers of the trainer; the first process, which alone writes, checks them.
    """
    for logger in _as_list(given):
        folder = getattr(logger, "log_dir", None) or getattr(logger, "save_dir", None)
        if folder is None or "://" in str(folder) or not is_first_process():
            continue
        path = Path(folder)
        is_new = not path.exists()
        try:
            path.mkdir(parents=True, exist_ok=True)
            with TemporaryFile(dir=path):
                pass
        except OSError as error:
            raise InputError(
                f"trainer.logger: {type(logger).__name__} can't write to {path}"
                f" ({error.strerror or error}); give another save_dir"
            ) from error
        if is_new:
            path.rmdir()


def deciding_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a `trainer` section that the weights depend on."""
    return {name: value for name, value in given.items() if name not in _PLACE}


def machine_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of `trainer_options` that say where to run."""
    return {name: options[name] for name in MACHINES if name in options}
