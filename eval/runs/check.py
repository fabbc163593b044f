"""Checks of a run's settings that need nothing to be loaded."""

from __future__ import annotations

from eval.run_settings import Run
from prefix_models.decoding.options import DecodeOptions
from regionlm.datasets.data_errors import DataError
from regionlm.datasets.dataset_options import check_request
from regionlm.embedders.options import check_embedder


def check_run(run: Run) -> None:
    """Check the settings of a run.

    Raises:
        DataError, InputError, PrefixModelError: an unknown name or option, or a bad value.
    """
    run.check()
    run.data.check()
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
            "template: expected words with {} once, in place of the name or expression, and no"
            f" other braces; found {template!r}"
        )
