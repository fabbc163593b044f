"""The `trainer` section: Lightning's own Trainer arguments, checked and instantiated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L

from regionlm.cli_parser import new_parser

# What the recipe says, or what makes a run a function of its settings.
_TAKEN = {
    "max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "limit_train_batches",
    "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches",
    "fast_dev_run", "val_check_interval", "check_val_every_n_epoch", "num_sanity_val_steps",
    "enable_checkpointing", "use_distributed_sampler", "reload_dataloaders_every_n_epochs",
    "default_root_dir", "inference_mode",
}  # fmt: skip
# Where a run happens and what it shows, which do not change what it computes.
_PLACE = (
    "accelerator", "strategy", "devices", "num_nodes", "logger", "log_every_n_steps",
    "enable_progress_bar", "enable_model_summary", "profiler", "benchmark",
)  # fmt: skip
MACHINES = ("accelerator", "strategy", "devices", "num_nodes")


def trainer_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Check a `trainer` section against Lightning's signature; build callbacks, strategy, loggers.

    Raises:
        UsageError: an unknown key, a wrong value, or one that the recipe has to say.
    """
    parser = new_parser("regionlm train fit", "")
    parser.add_class_arguments(
        L.Trainer, "trainer", skip=set(_TAKEN), instantiate=False, fail_untyped=False
    )
    parsed = parser.parse_object({"trainer": dict(given)})
    built = parser.instantiate(parsed)["trainer"]
    return {name: value for name, value in dict(built).items() if name in given}


def deciding_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a `trainer` section that change what is computed."""
    return {name: value for name, value in given.items() if name not in _PLACE}


def machine_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `trainer_options` that say where to run."""
    return {name: options[name] for name in MACHINES if name in options}
