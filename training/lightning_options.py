"""The `trainer` section: Lightning's own Trainer arguments, checked and instantiated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from regionlm.cli_parser import new_parser
from regionlm.errors import InputError
from training.settings import check_least

# What the recipe says, or what makes a run a function of its settings.
_TAKEN = {
    "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches",
    "fast_dev_run", "val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps",
    "enable_checkpointing", "use_distributed_sampler", "reload_dataloaders_every_n_epochs",
    "default_root_dir", "inference_mode", "barebones",
}  # fmt: skip
# Where a run happens and what it shows, which do not change what it computes.
_PLACE = (
    "accelerator", "strategy", "devices", "num_nodes", "logger", "log_every_n_steps",
    "enable_progress_bar", "enable_model_summary", "profiler", "benchmark",
)  # fmt: skip
MACHINES = ("accelerator", "strategy", "devices", "num_nodes")
_LEAST = {"accumulate_grad_batches": 1, "log_every_n_steps": 1, "gradient_clip_val": 0}


def trainer_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check a `trainer` section against Lightning's signature; build callbacks, strategy, loggers.

    Raises:
        UsageError: an unknown key, a wrong value, or one that the recipe has to say.
        InputError: a number out of range.
    """
    parser = new_parser("regionlm train fit", "")
    parser.add_class_arguments(
        L.Trainer, "trainer", skip=set(_TAKEN), instantiate=False, fail_untyped=False
    )
    # jsonargparse puts instances where class_path was; the settings are written down later.
    parsed = parser.parse_object({"trainer": deepcopy(dict(given))})
    check_least("trainer", vars(parsed["trainer"]), _LEAST)
    built = parser.instantiate(parsed)["trainer"]
    return {name: value for name, value in dict(built).items() if name in given}


def check_monitored(callbacks: Any, *, validates: bool) -> None:
    """Raise InputError for a callback that waits for a figure which no step reports.

    callbacks: the trainer's. validates: whether there are validation pairs.
    """
    reported = ["loss", "lr", *(["val_loss"] if validates else [])]
    for callback in callbacks if isinstance(callbacks, Sequence) else [callbacks]:
        # A callback of the user's own may report figures of its own.
        if not isinstance(callback, EarlyStopping | ModelCheckpoint):
            continue
        known = reported if isinstance(callback, EarlyStopping) else [*reported, "step", "epoch"]
        if callback.monitor is not None and callback.monitor not in known:
            raise InputError(
                f"trainer.callbacks: {type(callback).__name__} expected a monitor of"
                f" {', '.join(known)}; found {callback.monitor!r}"
                + ("" if validates else "; val_loss needs validation pairs")
            )


def deciding_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a `trainer` section that change what is computed."""
    return {name: value for name, value in given.items() if name not in _PLACE}


def machine_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `trainer_options` that say where to run."""
    return {name: options[name] for name in MACHINES if name in options}
