"""Sweeps: several runs that differ in a few settings, from one settings file to one table."""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, get_origin

from eval.run_settings import Run
from eval.runs.compare import Finished, compare, group_runs, short_name
from eval.runs.evaluate import carry_out, prepare
from eval.runs.plots import save_plot
from eval.runs.results import REPORT, RESULT
from regionlm.cli.flags import UsageError, group_of, has_name, option_kinds
from regionlm.cli.settings import build
from regionlm.datasets.data_errors import DataError
from regionlm.distributed.rank import is_first_process, note_rank
from regionlm.distributed.run_folder import SETTINGS
from regionlm.files import write_text

PLOT = "sweep.png"


def evaluate_sweep(run: Run) -> None:
    """Carry out each run of a sweep in its own folder, then write their results together.

    The settings, datasets, model names and output folders of all runs are checked before the first
    run starts. In the end ``run.output`` holds report.md (a table for each task), result.json (that
    of each run, by folder) and sweep.png. Every process of a distributed run calls this.

    Raises:
        DataError: as `expand`, or the output folder holds a single run; else as `evaluate`.
    """
    note_rank()
    if (run.output / SETTINGS).exists():
        raise DataError(
            f"output folder {run.output}: expected an empty one or a sweep's, found a single run;"
            " give another --output"
        )
    prepared = prepare(expand(run))
    for one in prepared:
        one.open_journal()  # refuses folders of other runs before the first run starts
    results = {one.run.output.name: carry_out(one) for one in prepared}
    if not is_first_process():
        return
    groups = group_runs([Finished(name, result) for name, result in results.items()])
    result = {"sweep": run.sweep, "runs": results}
    texts = {
        RESULT: json.dumps(result, indent=2, ensure_ascii=False, default=str) + "\n",
        REPORT: compare(groups),
    }
    for name, text in texts.items():
        write_text(run.output / name, text)
    save_plot(run.output / PLOT, groups)


def expand(run: Run) -> list[Run]:
    """Return the runs of a sweep, the last setting changing fastest; a run without one as it is.

    Raises:
        DataError: a dotted name that is no setting, or its values are missing, of a wrong type or
            repeated.
    """
    if not run.sweep:
        return [run]
    choices = [_values(name, run.sweep[name]) for name in run.sweep]
    plain = json.dumps({**asdict(run), "sweep": {}}, default=str)
    runs: list[Run] = []
    taken: set[str] = set()
    for values in itertools.product(*choices):
        chosen = dict(zip(run.sweep, values, strict=True))
        one = _typed(json.loads(plain), chosen)
        one.output = run.output / _untaken(folder_name(chosen), taken)
        runs.append(one)
    return runs


def folder_name(values: dict[str, Any]) -> str:
    """Name a folder after the settings of its run, such as "task-classes,alpha-0.5"."""
    parts = []
    for name, value in values.items():
        plain = re.sub(r"[^\w.+-]+", "_", str(value))
        parts.append(f"{short_name(name)}-{plain}")
    return ",".join(parts)


def _values(name: str, values: Any) -> list[Any]:
    kinds = option_kinds(Run)
    inside = any(get_origin(kinds.get(group)) is dict for group in _groups(name))
    if name in ("output", "sweep") or not (name in kinds or inside):
        raise DataError(f"sweep: {name} is not a setting that can vary")
    if not isinstance(values, list) or not values:
        raise DataError(f"sweep: expected a list of values for {name}, found {values!r}")
    texts = [json.dumps(value, default=str) for value in values]
    if twice := [text for i, text in enumerate(texts) if text in texts[:i]]:
        raise DataError(f"sweep: {name} has the value {twice[0]} twice; leave one out")
    return values


def _groups(name: str) -> list[str]:
    """Return the groups that a dotted name is in: a and a.b for a.b.c."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts))]


def _typed(settings: dict[str, Any], chosen: Mapping[str, Any]) -> Run:
    """Build a run from plain settings and the chosen values, checked like a YAML file."""
    kinds = option_kinds(Run)
    for name, value in chosen.items():
        is_bare = isinstance(value, str) and has_name(group_of(kinds.get(name)))
        *path, last = f"{name}.name".split(".") if is_bare else name.split(".")
        holder = settings
        for part in path:
            inner = holder.get(part)
            holder[part] = inner if isinstance(inner, dict) else {}
            holder = holder[part]
        holder[last] = value
    try:
        return build(Run, settings)
    except UsageError as error:
        reason = " ".join(str(error).split()).removesuffix(" (see regionlm --help)")
        told = ", ".join(f"{name} {value}" for name, value in chosen.items())
        raise DataError(f"sweep, {told}: {reason}") from error


def _untaken(name: str, taken: set[str]) -> str:
    """Number a name that is taken: "a/b" and "a_b" give one name, and so may "A" and "a"."""
    free = name
    for number in itertools.count(2):
        if free.casefold() not in taken:
            break
        free = f"{name}-{number}"
    taken.add(free.casefold())
    return free
