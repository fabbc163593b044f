"""A plot of finished runs: a panel for each main metric, our figures beside the paper's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from eval.runs.compare import Finished, Group
from regionlm.extras import extra
from regionlm.files import write_atomically

with extra("eval"):
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure


_PANELS = 3  # side by side
_PANEL_SIZE = (4.2, 3.4)  # inches
_DPI = 110
_NO_SHARES = ("cider", "clipscore", "refclipscore")  # they may be above 1


def save_plot(path: Path, groups: Sequence[Group]) -> None:
    """Write a PNG file: curves over the numeric setting that differs between runs, else bars.

    Other settings that differ give further curves. Each group has a row of panels, for the metrics
    that the paper reports or else for the first three. Figures are in percent, CIDEr and CLIPScore
    times 100. Figures that a run or the paper lacks are left out.

    Raises InputError if the file can't be written.
    """
    size = (_PANELS * _PANEL_SIZE[0], len(groups) * _PANEL_SIZE[1])
    figure = Figure(figsize=size, layout="constrained")
    FigureCanvasAgg(figure)  # opens no window, whatever backend is set
    for row, group in enumerate(groups):
        along = _numeric_setting(group)
        for place, metric in enumerate(_main_metrics(group)):
            axes: Any = figure.add_subplot(len(groups), _PANELS, row * _PANELS + place + 1)
            axes.set_title(f"{group.task} on {group.dataset}: {metric}", fontsize="medium")
            if along is None:
                _bars(axes, group, metric)
            else:
                _curves(axes, group, metric, along)
    write_atomically(path, lambda aside: figure.savefig(aside, format="png", dpi=_DPI))


def _main_metrics(group: Group) -> list[str]:
    known = [name for name in group.metrics if any(name in r.result["paper"] for r in group.runs)]
    return (known or group.metrics)[:_PANELS]


def _numeric_setting(group: Group) -> str | None:
    """Return the last column that is a number in every run and a setting, not a count."""
    counted = set(group.runs[0].result["counts"])
    for name in reversed(group.columns):
        values = [run.settings.get(name) for run in group.runs]
        numbers = [v for v in values if isinstance(v, int | float) and not isinstance(v, bool)]
        if name not in counted and len(numbers) == len(values):
            return name
    return None


def _curves(axes: Any, group: Group, metric: str, along: str) -> None:
    others = [name for name in group.columns if name != along]
    series: dict[str, list[Finished]] = {}
    for run in sorted(group.runs, key=lambda run: run.settings[along]):
        series.setdefault(_label(run, others), []).append(run)
    for label, runs in series.items():
        places = [run.settings[along] for run in runs]
        (line,) = axes.plot(places, _ours(runs, metric), marker="o", label=label or "ours")
        theirs = _papers(runs, metric)
        if not all(map(math.isnan, theirs)):
            style = {"marker": "x", "linestyle": "--", "color": line.get_color(), "alpha": 0.6}
            axes.plot(places, theirs, label=f"{label} paper".strip(), **style)
    axes.set_xlabel(group.label(along))
    axes.set_ylabel(_unit(metric))
    if len(axes.lines) > 1:
        axes.legend(fontsize="small")


def _bars(axes: Any, group: Group, metric: str) -> None:
    places = range(len(group.runs))
    ours, theirs = _ours(group.runs, metric), _papers(group.runs, metric)
    if all(map(math.isnan, theirs)):
        axes.barh(places, ours)
    else:
        axes.barh([place - 0.2 for place in places], ours, height=0.4, label="ours")
        axes.barh([place + 0.2 for place in places], theirs, height=0.4, label="paper")
        axes.legend(fontsize="small")
    axes.set_yticks(list(places), [_label(run, group.columns) for run in group.runs])
    axes.invert_yaxis()  # the first run on top, as in the table
    axes.set_xlabel(_unit(metric))


def _label(run: Finished, names: Sequence[str]) -> str:
    values = [run.settings.get(name) for name in names]
    return ", ".join("default" if value is None else str(value) for value in values)


def _unit(metric: str) -> str:
    return "times 100" if metric in _NO_SHARES else "%"


def _ours(runs: Sequence[Finished], metric: str) -> list[float]:
    return _percents(runs, lambda run: run.result["metrics"].get(metric))


def _papers(runs: Sequence[Finished], metric: str) -> list[float]:
    return _percents(runs, lambda run: run.result["paper"].get(metric))


def _percents(runs: Sequence[Finished], figure: Callable[[Finished], float | None]) -> list[float]:
    """Return figures in percent, NaN (which is not drawn) where there is none."""
    found = [figure(run) for run in runs]
    return [math.nan if value is None else 100 * value for value in found]
