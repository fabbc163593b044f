"""The entry points of `regionlm eval` and `regionlm report`; see `regionlm.cli.added`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eval.run_settings import Run
from regionlm.cli.added import docstring_summary
from regionlm.cli.parser import parse_settings
from regionlm.extras import require


@dataclass
class ReportOptions:
    """The tables of finished evaluations.

    Args:
        folders: Folders of finished runs or sweeps.
        output: Write the tables to this Markdown file instead of the terminal.
        plot: Also write this PNG file, with a panel for each metric.
    """

    folders: list[Path]
    output: Path | None = None
    plot: Path | None = None


def run_eval(argv: Sequence[str]) -> None:
    """Evaluate an embedder on a dataset: one row of a table, or several with a sweep."""
    run = parse_settings(Run, argv, prog="regionlm eval", description=docstring_summary(run_eval))
    require("eval", "lightning", "torchmetrics", "pycocotools", "scipy", "matplotlib")
    from eval.runs.results import REPORT
    from regionlm.distributed.rank import is_first_process

    if run.sweep:
        from eval.runs.sweep import evaluate_sweep

        evaluate_sweep(run)
    else:
        from eval.runs.evaluate import evaluate

        evaluate(run)
    if is_first_process():
        print((run.output / REPORT).read_text(encoding="utf-8"), end="")


def run_report(argv: Sequence[str]) -> None:
    """Print tables of finished evaluations, and plot them."""
    options = parse_settings(
        ReportOptions,
        argv,
        prog="regionlm report",
        description=docstring_summary(run_report),
        positional="folders",
    )
    from eval.runs.compare import compare, group_runs, read_runs
    from regionlm.files import check_writable, write_text

    if options.output is not None:
        check_writable(options.output)
    if options.plot is not None:
        check_writable(options.plot, (".png",))
    groups = group_runs(read_runs(options.folders))
    text = compare(groups)
    if options.plot is not None:
        from eval.runs.plots import save_plot

        save_plot(options.plot, groups)
    if options.output is None:
        print(text, end="")
    else:
        write_text(options.output, text)
