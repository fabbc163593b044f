"""`regionlm eval` and `regionlm report`; `regionlm.cli` calls them and words their errors."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from eval.settings import Run


def run_eval(parser: ArgumentParser, argv: Sequence[str]) -> None:
    """Run one evaluation and print its report."""
    parser.add_argument("--config", action="config", help="YAML file with any of these options.")
    parser.add_class_arguments(Run)
    options = parser.instantiate(parser.parse_args(list(argv)))
    options.pop("config")
    run = Run(**options)
    logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
    from lightning.pytorch.utilities import rank_zero_only

    from eval.runs.execute import evaluate
    from eval.runs.report import REPORT, merge_reports
    from eval.runs.sweep import expand

    runs = expand(run)
    for one in runs:
        evaluate(one)
    if rank_zero_only.rank:
        return
    if run.sweep:
        print(merge_reports([one.output for one in runs]), end="")
    else:
        print((run.output / REPORT).read_text(encoding="utf-8"), end="")


def run_report(parser: ArgumentParser, argv: Sequence[str]) -> None:
    """Print finished runs as one table."""
    parser.add_argument("folders", nargs="+", type=Path, help="folders of finished runs")
    folders = parser.parse_args(list(argv)).folders
    from eval.runs.report import merge_reports

    print(merge_reports(folders), end="")


RUNNERS = {"eval": run_eval, "report": run_report}
