"""Tables of finished runs: one for each task and dataset, with a row for each run."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from eval.runs.results import RESULT, percent
from regionlm.datasets.data_errors import DataError

RUN = "run"
"""Column of folder names, shown where no setting tells two runs apart."""

_ABOUT_THIS_MACHINE = ("data.root", "model.offline", "judge.offline", "sam.offline")
_DIGESTS = "digests"


@dataclass(frozen=True)
class Finished:
    """A finished run: the name of its folder and the content of its result.json."""

    name: str
    result: Mapping[str, Any]

    @cached_property
    def settings(self) -> dict[str, Any]:
        """Settings by dotted name, and counts; without task, dataset and what only says where."""
        settings = self.result["settings"]
        found = _flat({name: value for name, value in settings.items() if name != _DIGESTS})
        for name in ("task", "data.name", "image_count", *_ABOUT_THIS_MACHINE):
            found.pop(name, None)
        return {**found, **self.result["counts"], RUN: self.name}


@dataclass(frozen=True)
class Group:
    """The runs of one task on one dataset."""

    task: str
    dataset: str
    runs: list[Finished]

    @cached_property
    def columns(self) -> list[str]:
        """Dotted names of the settings that tell the runs apart; at least one."""
        names = [name for name in self._names if len({_text(r, name) for r in self.runs}) > 1]
        rows = {tuple(_text(run, name) for name in names) for run in self.runs}
        if len(rows) < len(self.runs):
            return [RUN, *names]
        return names or ["embedder.name"]

    @cached_property
    def metrics(self) -> list[str]:
        """Names of all metrics that any of the runs has."""
        return list(dict.fromkeys(name for run in self.runs for name in run.result["metrics"]))

    @cached_property
    def same_metrics(self) -> dict[str, str]:
        """Figures that are the same in all runs, by metric; they get no column."""
        cells = {
            name: {_with_paper(run.result, name) for run in self.runs} for name in self.metrics
        }
        same = {name: found.pop() for name, found in cells.items() if len(found) == 1}
        return same if len(same) < len(self.metrics) else {}

    def label(self, column: str) -> str:
        """Return a column's short name, or its full one where two short names are the same."""
        short = short_name(column)
        alike = [name for name in self.columns if short_name(name) == short]
        return short if len(alike) < 2 else column

    def markdown(self) -> str:
        """Return a heading, what all runs have in common, and the table."""
        metrics = [name for name in self.metrics if name not in self.same_metrics]
        head = [*map(self.label, self.columns), *metrics]
        lines = [f"## {self.task} on {self.dataset}", "", self._in_common(), ""]
        if self.same_metrics:
            same = ", ".join(f"{name} {figure}" for name, figure in self.same_metrics.items())
            lines += [f"The same in all: {same}.", ""]
        lines += ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
        for run in self.runs:
            cells = [_text(run, name) for name in self.columns]
            cells += [_with_paper(run.result, name) for name in metrics]
            lines.append("| " + " | ".join(cells) + " |")
        return "\n".join(lines) + "\n"

    @property
    def _names(self) -> list[str]:
        found = dict.fromkeys(name for run in self.runs for name in run.settings)
        return [name for name in found if name != RUN]

    def _in_common(self) -> str:
        """List the settings and counts that are the same in all runs."""
        first = self.runs[0]
        none = {name for name, count in first.result["counts"].items() if not count}
        shared = [
            f"{short_name(name)} {_text(first, name)}"
            for name in self._names
            if name not in self.columns and _text(first, name) not in ("", "false")
            if name not in none
        ]
        return "Fixed: " + ", ".join(shared) + "."


def read_runs(folders: Sequence[Path]) -> list[Finished]:
    """Read the runs of some folders; the folder of a sweep gives all of its runs.

    Raises:
        DataError: a folder does not hold a finished run.
    """
    runs: list[Finished] = []
    for folder in folders:
        result = _read(folder / RESULT)
        parts = result.get("runs", {"": result})
        runs += [Finished(str(folder / name), part) for name, part in parts.items()]
    return runs


def group_runs(runs: Sequence[Finished]) -> list[Group]:
    """Group runs by task and dataset, in the order of their first appearance."""
    groups: dict[tuple[str, str], list[Finished]] = {}
    for run in runs:
        settings = run.result["settings"]
        groups.setdefault((settings["task"], settings["data"]["name"]), []).append(run)
    return [Group(task, dataset, runs) for (task, dataset), runs in groups.items()]


def compare(groups: Sequence[Group]) -> str:
    """Return all tables as Markdown."""
    text = "\n".join(group.markdown() for group in groups)
    if any(run.result["paper"] for group in groups for run in group.runs):
        text += "\nIn brackets: the paper's figure.\n"
    return text


def short_name(name: str) -> str:
    """Return the last telling part of a setting's dotted name, such as alpha or embedder."""
    return [part for part in name.split(".") if part not in ("name", "options")][-1]


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{above}{name}.")
        else:
            found[above + name] = value
    return found


def _text(run: Finished, name: str) -> str:
    value = run.settings.get(name)
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return "" if value is None else " ".join(text.replace("|", "\\|").split())


def _with_paper(result: Mapping[str, Any], name: str) -> str:
    theirs = result["paper"].get(name)
    beside = f" ({percent(theirs)})" if theirs is not None else ""
    return percent(result["metrics"].get(name)) + beside


def _read(path: Path) -> dict[str, Any]:
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        parts = result.get("runs", {"": result})
        for part in parts.values():
            part["settings"]["task"], part["settings"]["data"]["name"]
            part["metrics"], part["paper"], part["counts"]
        if not parts:
            raise ValueError("no runs in it")
    except (FileNotFoundError, NotADirectoryError):
        raise DataError(
            f"{path}: no such file; expected the folder of a finished evaluation"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: can't be read ({error.strerror})") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{path}: expected the JSON of a finished run ({error})") from None
    return result
