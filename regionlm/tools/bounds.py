"""How much one call of a tool may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from prefix_models.checks import Checked, PositiveCount
from regionlm.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Bounds(Checked):
    """how much one call may ask for.

    Args:
        pixels: Most pixels of an image or mask.
        regions: Most regions in one call.
        texts: Most texts in one call.
        file_mib: Largest file of an image or mask, in MiB.
        kept: Most images and masks that are remembered by their id; the one that was not asked
            about for longest is forgotten first.
        kept_mib: Most pixels of theirs that are remembered, in MiB.

    Raises:
        InputError: a number below 1.
    """

    error: ClassVar[type[InputError]] = InputError

    pixels: PositiveCount = 50_000_000
    regions: PositiveCount = 64
    texts: PositiveCount = 64
    file_mib: PositiveCount = 64
    kept: PositiveCount = 64
    kept_mib: PositiveCount = 1024

    def check_count(self, what: str, count: int) -> None:
        """Raise InputError where a call has too many `regions` or `texts`."""
        most = getattr(self, what)
        if count > most:
            raise InputError(
                f"{what}: expected at most {most}, found {count}; ask in several calls"
            )
