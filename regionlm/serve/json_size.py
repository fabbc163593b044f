"""How much the JSON of a request may hold: reading it stops all else that the process does."""

from __future__ import annotations

from regionlm.serve.errors import TooLargeError

MOST_VALUES = 500_000
"""Of lists and objects together; reading so many takes about half a second."""
MOST_NAMES = 50_000
"""Of objects' members, each of which takes longer."""


class JsonSize:
    """Counts commas and colons, also those in texts: no JSON has many more values and names."""

    def __init__(self, part: bytes = b"") -> None:
        self._values = self._names = 0
        self.add(part)

    def add(self, part: bytes) -> None:
        """Count the next part."""
        self._values += part.count(b",")
        self._names += part.count(b":")

    def check(self) -> None:
        """Raise TooLargeError for more than a request may have."""
        for found, most, what in (
            (self._values, MOST_VALUES, "values"),
            (self._names, MOST_NAMES, "names"),
        ):
            if found > most:
                raise TooLargeError(
                    f"the JSON of a request may have at most {most} {what}; send several requests,"
                    " or large regions as files or packed run-length codes"
                )
