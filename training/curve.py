"""The loss curve, a CSV file that a resumed run continues."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from regionlm.extras import extra
from regionlm.files import write_text, writing

with extra("train"):
    from lightning.pytorch.loggers.logger import Logger
    from lightning.pytorch.utilities import rank_zero_only


COLUMNS = ("step", "loss", "lr", "val_loss")


class LossCurve(Logger):
    """A Lightning logger that writes a line for each logged step, at once.

    Args:
        path: the CSV file; its folder must exist.
    """

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.path = path

    @property
    def name(self) -> str:
        """Name of the file."""
        return self.path.stem

    @property
    def version(self) -> str:
        """Empty, since there is only one version."""
        return ""

    @rank_zero_only
    def continue_from(self, step: int) -> None:
        """Drop the lines from `step` on, which is the next step, and an incomplete last line."""
        rows = [row for row in read_curve(self.path) if row["step"] < step]
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _shown(row.get(name)) for name in COLUMNS} for row in rows)
        write_text(self.path, text.getvalue())

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        """Append a line to the file."""
        row: dict[str, Any] = {"step": step, **metrics}
        line = ",".join(_shown(row.get(name)) for name in COLUMNS)
        with writing(self.path), self.path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **options: Any) -> None:
        """Do nothing: the settings are in run.json."""


def read_curve(path: Path) -> list[dict[str, float]]:
    """The complete lines of a curve; none if there is no file."""
    if not path.exists():
        return []
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    whole = [line for line in lines if line.endswith("\n")]
    rows = csv.DictReader(whole)
    return [{name: float(value) for name, value in row.items() if value} for row in rows]


def _shown(value: float | None) -> str:
    if value is None:
        return ""
    return (
        str(int(value)) if float(value).is_integer() and abs(value) < 2**53 else repr(float(value))
    )
