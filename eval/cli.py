"""`regionlm eval` and `regionlm report`; `regionlm.cli` calls them and words their errors."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jsonargparse import ArgumentParser

from eval.settings import Run
from regionlm.cli_flags import spell_out
from regionlm.cli_values import add_settings
from regionlm.extras import require


def run_eval(parser: ArgumentParser, argv: Sequence[str]) -> None:
    """Run one evaluation and print its report."""
    parser.add_argument("--config", action="config", help="YAML file with any of these options.")
    add_settings(parser, Run)
    options = parser.instantiate(parser.parse_args(spell_out(argv, Run)))
    options.pop("config")
    run = Run(**options)
    require("eval", "lightning", "torchmetrics", "pycocotools", "scipy", "matplotlib")
    from eval.runs.report import REPORT
    from regionlm.runs.rank import is_first_process

    if run.sweep:
        from eval.runs.sweep import evaluate_sweep

        evaluate_sweep(run)
    else:
        from eval.runs.execute import evaluate

        evaluate(run)
    if is_first_process():
        print((run.output / REPORT).read_text(encoding="utf-8"), end="")


def run_report(parser: ArgumentParser, argv: Sequence[str]) -> None:
    """Print finished runs as tables, or write them to files."""
    parser.add_argument("folders", nargs="+", type=Path, help="folders of finished runs or sweeps")
    parser.add_argument("--output", type=Path, help="Markdown file, in place of the terminal")
    parser.add_argument("--plot", type=Path, help="PNG file with a panel for each metric")
    options = parser.parse_args(list(argv))
    from eval.runs.compare import compare, group_runs, read_runs
    from regionlm.outputs import check_writable, write_text

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


RUNNERS = {"eval": run_eval, "report": run_report}
