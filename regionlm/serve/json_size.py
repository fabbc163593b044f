"""How much the JSON of a request may hold: reading it stops all else that the process does."""

from __future__ import annotations

from regionlm.serve.errors import TooLargeError

MOST_VALUES = 1_000_000
"""Of lists and objects together; reading so many takes about a second."""
MOST_NAMES = 100_000
"""Of objects' members, each of which takes longer."""


class JsonSize:
    """Counts commas and colons, also those in texts: no JSON has more values and names than that."""

    def __init__(self) -> None:
        self._values = self._names = 0

    def add(self, part: bytes) -> None:
        """Count the next part. Raises TooLargeError: more than a request may have."""
        self._values += part.count(b",")
        self._names += part.count(b":")
        for found, most, what in (
            (self._values, MOST_VALUES, "values"),
            (self._names, MOST_NAMES, "names"),
        ):
            if found > most:
                raise TooLargeError(
                    f"the JSON of a request may have at most {most} {what}; send several requests,"
                    " or large regions as files or packed run-length codes"
                )
