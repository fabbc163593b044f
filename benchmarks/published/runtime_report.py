"""What ``runtime.py`` found, as JSON, a Markdown table and two pictures."""

from __future__ import annotations

import json
import platform
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from regionlm.files import write_atomically

# Table 5 of arXiv 2407.20034: masks -> seconds for K = 10, vanilla and decomposed, on their GPU.
PAPER = {5: (0.10, 0.13), 10: (0.15, 0.14), 50: (0.65, 0.27), 100: (1.27, 0.44)}


@dataclass(frozen=True)
class Measurement:
    """One point of a curve: seconds of every call ``[sides][repeats]``, and each side's peak."""

    masks: int
    size: int
    tokens: int
    seconds: list[list[float]]
    peak_gib: list[float]  # of the process: its libraries and weights are in it

    @property
    def medians(self) -> list[float]:
        """Seconds, one a side."""
        return [statistics.median(calls) for calls in self.seconds]


def write_report(
    folder: Path,
    setup: str,
    sides: Sequence[str],
    by_masks: Sequence[Measurement],
    by_tokens: Sequence[Measurement],
) -> str:
    """Write runtime.json, runtime.md, masks.png and tokens.png; return the Markdown."""
    result = {
        "setup": setup,
        "sides": list(sides),
        "by_masks": [asdict(point) for point in by_masks],
        "by_tokens": [asdict(point) for point in by_tokens],
        "paper_table_5": {str(masks): seconds for masks, seconds in PAPER.items()},
        "machine": platform.machine(),
        "versions": {"python": platform.python_version(), "torch": version("torch")},
    }
    text = _markdown(setup, sides, by_masks, by_tokens)
    files = {"runtime.json": json.dumps(result, indent=2) + "\n", "runtime.md": text}
    for name, content in files.items():
        write_atomically(folder / name, partial(Path.write_text, data=content, encoding="utf-8"))
    _plot(folder / "masks.png", sides, by_masks, lambda point: point.masks, f"masks; {setup}")
    _plot(folder / "tokens.png", sides, by_tokens, lambda point: point.tokens, f"tokens; {setup}")
    return text


def _markdown(
    setup: str,
    sides: Sequence[str],
    by_masks: Sequence[Measurement],
    by_tokens: Sequence[Measurement],
) -> str:
    repeats = len(by_masks[0].seconds[0])
    over_masks = f"Seconds against the number of masks (Table 5, Figure 10), {by_masks[0].size} px"
    over_tokens = f"Seconds against the number of tokens (Figure 6), {by_tokens[0].masks} masks"
    beside = ["paper, vanilla", "paper, decomposed"]
    lines = [
        f"{setup}; random weights; median of {repeats} calls (least to most), sides in turns.",
        f"\n## {over_masks}\n",
        *_table(["masks"], sides, by_masks, lambda point: [point.masks], beside, _paper_row),
        "\nThe paper's seconds are those of its GPU: compare their growth, not their size.",
        f"\n## {over_tokens}\n",
        *_table(["pixels", "tokens"], sides, by_tokens, lambda point: [point.size, point.tokens]),
        "\nPeaks are a process's highest memory, its libraries and weights included.",
    ]
    return "\n".join(lines) + "\n"


def _table(
    first: list[str],
    sides: Sequence[str],
    points: Sequence[Measurement],
    place: Callable[[Measurement], list[int]],
    beside: Sequence[str] = (),
    others: Callable[[Measurement], list[str]] = lambda point: [],
) -> list[str]:
    ours = sides.index("regionlm") if "regionlm" in sides else None
    opponents = [i for i in range(len(sides)) if ours is not None and i != ours]
    head = [*first, *(f"{side}, s" for side in sides)]
    head += [f"{sides[i]} / regionlm" for i in opponents]
    head += [f"{side}, peak GiB" for side in sides] + list(beside)
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for point in points:
        cells = [str(number) for number in place(point)]
        for calls, median in zip(point.seconds, point.medians, strict=True):
            cells.append(f"{median:.3f} ({min(calls):.3f} to {max(calls):.3f})")
        cells += [f"{point.medians[i] / point.medians[ours]:.2f}" for i in opponents]
        cells += [f"{peak:.2f}" for peak in point.peak_gib] + others(point)
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def _paper_row(point: Measurement) -> list[str]:
    return [f"{seconds:.2f}" for seconds in PAPER.get(point.masks, ())] or ["", ""]


def _plot(
    path: Path,
    sides: Sequence[str],
    points: Sequence[Measurement],
    place: Callable[[Measurement], int],
    label: str,
) -> None:
    """Medians as lines, all calls as the bars about them."""
    figure = Figure(figsize=(6, 4), layout="constrained")
    FigureCanvasAgg(figure)  # no window, whatever matplotlib is set to
    axes: Any = figure.add_subplot(xlabel=label, ylabel="seconds")
    for number, side in enumerate(sides):
        middle = [point.medians[number] for point in points]
        calls = [point.seconds[number] for point in points]
        below = [m - min(c) for m, c in zip(middle, calls, strict=True)]
        above = [max(c) - m for m, c in zip(middle, calls, strict=True)]
        positions = [place(point) for point in points]
        axes.errorbar(positions, middle, [below, above], marker="o", capsize=3, label=side)
    axes.set_ylim(bottom=0)
    axes.legend()
    write_atomically(path, lambda aside: figure.savefig(aside, format="png", dpi=120))
