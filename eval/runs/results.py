"""The files of a finished run: samples.jsonl, result.json and report.md."""

from __future__ import annotations

import math
import platform
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from regionlm.distributed.journal import json_line
from regionlm.files import write_atomically

if TYPE_CHECKING:  # it imports torch, which `regionlm report` does not need
    from eval.tasks.region_task import Record

RESULT, SAMPLES, REPORT = "result.json", "samples.jsonl", "report.md"
_PACKAGES = ("regionlm", "torch", "open_clip_torch", "transformers", "lightning", "torchmetrics")


@dataclass(frozen=True)
class ImageAnswer:
    """The answer for one image.

    Args:
        image: its id.
        records: one for each query.
        bad: why the image could not be read, or None.
        counts: counts by name, which are summed over all images.
    """

    image: str
    records: list[Record]
    bad: str | None = None
    counts: Mapping[str, int] = field(default_factory=dict)


def write_results(
    folder: Path,
    answers: Sequence[ImageAnswer],
    metrics: Mapping[str, float],
    paper: Mapping[str, float],
    settings: Mapping[str, Any],
    machine: Mapping[str, Any],
) -> dict[str, Any]:
    """Write all three files, each of them whole or not at all.

    Args:
        folder: folder of the run.
        answers: one for every image, in the dataset's order.
        metrics: our figures, [0, 1].
        paper: the paper's figures, [0, 1], by the same names, where it has any.
        settings: all settings that the answers depend on.
        machine: processes, devices and other settings that they do not depend on.

    Returns:
        The content of result.json.
    """
    lines = [
        json_line({"image": answer.image, **record})
        for answer in answers
        for record in answer.records
    ]
    bad = {answer.image: answer.bad for answer in answers if answer.bad is not None}
    result = {
        "metrics": {name: None if math.isnan(v) else v for name, v in metrics.items()},
        "paper": dict(paper),
        "counts": {
            "images": len(answers),
            "queries": len(lines),
            "bad_images": len(bad),
            **_sums(answers),
        },
        "bad_images": bad,
        "settings": dict(settings),
        "machine": dict(machine),
        "versions": _versions(),
        "git": _revision(),
    }
    files = {
        SAMPLES: b"".join(lines),
        RESULT: json_line(result, indent=2),
        REPORT: _report(result).encode(errors="backslashreplace"),
    }
    for name, data in files.items():
        write_atomically(folder / name, partial(Path.write_bytes, data=data))
    return result


def _sums(answers: Sequence[ImageAnswer]) -> dict[str, int]:
    names = dict.fromkeys(name for answer in answers for name in answer.counts)
    return {name: sum(answer.counts.get(name, 0) for answer in answers) for name in names}


def _report(result: Mapping[str, Any]) -> str:
    settings, counts = result["settings"], result["counts"]
    lines = [
        f"# {settings['task']} on {settings['data']['name']}: {_embedder(settings['embedder'])}",
        "",
        f"Model `{settings['model']['name']}`{_listed(settings.get('trunk', {}))};"
        f" {counts['images']} images, {counts['queries']} queries, {counts['bad_images']} images"
        " could not be read.",
        "",
        "| metric | paper | ours | difference |",
        "|---|---|---|---|",
    ]
    for name, value in result["metrics"].items():
        theirs = result["paper"].get(name)
        difference = "" if theirs is None or value is None else f"{100 * (value - theirs):+.1f}"
        lines.append(f"| {name} | {percent(theirs)} | {percent(value)} | {difference} |")
    lines += [f"\nNot read: {name}: {why}" for name, why in result["bad_images"].items()]
    return "\n".join(lines) + "\n"


def _embedder(settings: Mapping[str, Any]) -> str:
    return settings["name"] + _listed(settings["options"])


def _listed(options: Mapping[str, Any]) -> str:
    """Options in brackets, if there are any."""
    listed = ", ".join(f"{key} {value}" for key, value in options.items())
    return f" ({listed})" if listed else ""


def percent(value: float | None) -> str:
    """Format a share in percent, as tables show it; empty for None."""
    return "" if value is None else f"{100 * value:.1f}"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _revision() -> str | None:
    """Return the commit of the checkout, with ``+`` if files were changed, or None outside one."""
    here = Path(__file__).parent
    try:
        run = ["git", "-C", str(here), "describe", "--always", "--dirty=+", "--abbrev=12"]
        done = subprocess.run(run, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() or None
