"""The result of an examination, as text and as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

State = Literal["ok", "note", "wrong"]


@dataclass(frozen=True)
class Row:
    """One thing that was checked.

    Args:
        name: name of the thing.
        found: what was found.
        expected: what was expected; empty if anything may be found.
        state: ``"wrong"`` for a fault, ``"note"`` for something worth knowing that does no harm.
        note: what the finding means and what to do, in one line.
    """

    name: str
    found: str
    expected: str = ""
    state: State = "ok"
    note: str = ""

    def sentence(self) -> str:
        """Return the row as a sentence that can stand alone."""
        return f"{self.name} {self.found}: {self.note or f'expected {self.expected}'}"


@dataclass(frozen=True)
class DiagnosisSection:
    """Rows on one subject; `heads` are the headings above what was found and expected."""

    name: str
    rows: tuple[Row, ...]
    heads: tuple[str, str] = ("", "")


@dataclass(frozen=True)
class Diagnosis:
    """The result of an examination."""

    version: str
    """Version of regionlm."""
    sections: tuple[DiagnosisSection, ...]

    @property
    def faults(self) -> list[str]:
        """A sentence for each thing that is wrong."""
        return self._sentences("wrong")

    @property
    def notes(self) -> list[str]:
        """A sentence for each thing that is worth knowing but not wrong."""
        return self._sentences("note")

    def text(self) -> str:
        """Return aligned lines; the last one says whether all is well."""
        lines = [f"regionlm {self.version}"]
        for section in self.sections:
            lines += ["", *_lines(section)]
        return "\n".join([*lines, "", self._verdict()])

    def to_dict(self) -> dict[str, Any]:
        """Return what ``--json`` prints, with the rows by the name of their section."""
        return {
            "regionlm": self.version,
            "faults": self.faults,
            "notes": self.notes,
            "sections": {
                section.name: [vars(row) for row in section.rows] for section in self.sections
            },
        }

    def _sentences(self, state: State) -> list[str]:
        rows = (row for section in self.sections for row in section.rows)
        return [row.sentence() for row in rows if row.state == state]

    def _verdict(self) -> str:
        faults = self.faults
        if not faults:
            return "all is well"
        many = f"{len(faults)} things are" if len(faults) > 1 else "1 thing is"
        return f"{many} wrong: {'; '.join(faults)}"


def _lines(section: DiagnosisSection) -> list[str]:
    table = [("", section.name, *section.heads, "")]
    for row in section.rows:
        mark = "" if row.state == "ok" else row.state
        table.append((mark, row.name, row.found, row.expected, row.note))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    widths[0] = len("wrong")  # the same in all sections, to align them
    return [_line(cells, widths) for cells in table]


def _line(cells: Sequence[str], widths: Sequence[int]) -> str:
    pairs = zip(cells, widths, strict=True)
    return "  ".join(cell.ljust(width) for cell, width in pairs if width).rstrip()
