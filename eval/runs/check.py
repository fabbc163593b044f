"""What can be said of a run before anything of it is loaded."""

from __future__ import annotations

from typing import get_args

from eval.run_settings import MaskQuality, Run, TaskName
from prefix_models.decoding.options import DecodeOptions
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.dataset_options import check_request
from regionlm.embedders.options import check_embedder
from regionlm.inputs.numbers import check_choice


def check_run(run: Run) -> None:
    """Raise DataError or InputError for a name, an option or a template that can't be meant."""
    check_choice("task", run.task, get_args(TaskName))
    check_choice("masks", run.masks, get_args(MaskQuality))
    if run.mask_kernel < 3 or run.mask_kernel % 2 == 0:
        raise DataError(
            f"mask_kernel: expected 3, 5, 7 or another odd number, found {run.mask_kernel}"
        )
    if run.data.workers < 0:
        raise DataError(f"data.workers: expected 0 threads or more, found {run.data.workers}")
    check_request(run.data.name, run.data.root, run.data.options)
    check_embedder(run.embedder.name, run.embedder.options)
    if run.task == "captioning":
        DecodeOptions.from_dict(run.decoding)
    if run.template is not None:
        _check_template(run.template)


def _check_template(template: str) -> None:
    around = template.split("{}")
    if len(around) != 2 or any(brace in part for part in around for brace in "{}"):
        raise DataError(
            "template: expected words with {} once, where the name or expression goes, and no other"
            f" braces; found {template!r}"
        )
