"""Several runs that differ in a few settings: one setting file, one table."""

from __future__ import annotations

import copy
import itertools
import json
import re
from dataclasses import is_dataclass
from functools import partial
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_only

from eval.errors import DataError
from eval.runs.compare import Finished, compare, group_runs, short_name
from eval.runs.execute import evaluate
from eval.runs.plots import save_plot
from eval.runs.report import REPORT, RESULT
from eval.settings import Run
from regionlm.outputs import write_atomically
from regionlm.runs.journal import SETTINGS

PLOT = "sweep.png"


def evaluate_sweep(run: Run) -> None:
    """Carry out each run of a sweep in a folder of its own, then write all of them together.

    ``run.output`` then holds report.md (a table for each task), result.json (that of each run, by
    folder) and sweep.png. Every process of a distributed run calls it.

    Raises:
        DataError: as `expand`, or the output folder holds a single run; else as `evaluate`.
    """
    if (run.output / SETTINGS).exists():
        raise DataError(
            f"output folder {run.output}: expected an empty one or a sweep's, found a single run;"
            " give another --output"
        )
    results = {one.output.name: evaluate(one) for one in expand(run)}
    if rank_zero_only.rank:
        return
    groups = group_runs([Finished(name, result) for name, result in results.items()])
    result = {"sweep": run.sweep, "runs": results}
    texts = {
        RESULT: json.dumps(result, indent=2, ensure_ascii=False, default=str) + "\n",
        REPORT: compare(groups),
    }
    for name, text in texts.items():
        write_atomically(run.output / name, partial(Path.write_text, data=text, encoding="utf-8"))
    save_plot(run.output / PLOT, groups)


def expand(run: Run) -> list[Run]:
    """The runs of a sweep, the last setting changing fastest; the run itself if it has none.

    Raises:
        DataError: a dotted name that is no setting, or without values.
    """
    if not run.sweep:
        return [run]
    runs = []
    for values in itertools.product(*(_values(name, run.sweep[name]) for name in run.sweep)):
        one = copy.deepcopy(run)
        one.sweep = {}
        for name, value in zip(run.sweep, values, strict=True):
            _assign(one, name, value)
        one.output = run.output / folder_name(dict(zip(run.sweep, values, strict=True)))
        runs.append(one)
    return runs


def folder_name(values: dict[str, Any]) -> str:
    """A folder's name out of what is special about a run: "task-classes,alpha-0.5"."""
    parts = []
    for name, value in values.items():
        plain = re.sub(r"[^\w.+-]+", "_", str(value))
        parts.append(f"{short_name(name)}-{plain}")
    return ",".join(parts)


def _values(name: str, values: Any) -> list[Any]:
    if not isinstance(values, list) or not values:
        raise DataError(f"sweep: expected a list of values for {name}, found {values!r}")
    return values


def _assign(run: Run, name: str, value: Any) -> None:
    *path, last = name.split(".")
    holder: Any = run
    for part in path:
        holder = _get(holder, part, name)
    if isinstance(holder, dict):
        holder[last] = value
    else:
        before = _get(holder, last, name)
        setattr(holder, last, Path(value) if isinstance(before, Path) else value)


def _get(holder: Any, part: str, name: str) -> Any:
    if is_dataclass(holder) and hasattr(holder, part):
        return getattr(holder, part)
    if isinstance(holder, dict) and part in holder:
        return holder[part]
    raise DataError(f"sweep: {name} is no setting of a run (nothing named {part})")
