"""Run a check: an exception becomes a row, and rows contain nothing private.

A check is a function that yields rows. Those that it yielded before it failed are kept.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from prefix_models.errors import UserError, kind_and_line
from regionlm.doctor.diagnosis import DiagnosisSection, Row

Check = Callable[[], Iterable[Row]]


def run_check(name: str, check: Check) -> list[Row]:
    """Return the rows of a check, one for its exception, and one for each warning to users."""
    rows: list[Row] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", UserWarning)
        try:
            rows.extend(check())
        except Exception as error:  # finding errors of any kind is the purpose
            rows.append(Row(name, "failed", state="wrong", note=reason(error)))
    said = {str(w.message): None for w in caught if issubclass(w.category, UserWarning)}
    rows += [Row(name, "warns", state="note", note=message) for message in said]
    return rows


def make_section(
    name: str, rows: Iterable[Row], heads: tuple[str, str] = ("", "")
) -> DiagnosisSection:
    """Make a section of rows that can be shown to anybody."""
    return DiagnosisSection(clean(name), tuple(_clean_row(row) for row in rows), heads)


def reason(error: Exception) -> str:
    """Return an exception in one line, without its type if the message was written for users."""
    return str(error) if isinstance(error, UserError) else kind_and_line(error)


def clean(text: str) -> str:
    """Return a text as one line without control characters and private information.

    Passwords in addresses and hub tokens are removed; the user's home folder is shown as ~.
    """
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    text = re.sub(r"://[^/\s@]+@", "://", text)
    text = re.sub(r"\bhf_\w{8,}", "hf_***", text)
    try:
        home = str(Path.home())
    except RuntimeError:  # there is none
        return text
    if len(Path(home).parts) < 2:  # the root folder is no secret
        return text
    return re.sub(rf"(?<![\w.-]){re.escape(home)}(?![\w.-])", "~", text)


def _clean_row(row: Row) -> Row:
    return replace(
        row,
        name=clean(row.name),
        found=clean(row.found),
        expected=clean(row.expected),
        note=clean(row.note),
    )
