"""How much one call of a tool may ask for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from prefix_models.checks import Checked, PositiveCount
from regionlm.errors import InputError

MIB = 2**20


def masks_within(mebibytes: float, size: tuple[int, int]) -> int:
    """How many masks of `size` (W, H) the memory holds, a byte for each pixel; 1 at least."""
    return max(1, int(mebibytes * MIB) // (size[0] * size[1]))


@dataclass(frozen=True, kw_only=True)
class Bounds(Checked):
    """how much one call may ask for.

    Args:
        pixels: Most pixels of an image or mask.
        regions: Most regions in one call.
        masks_mib: Most memory of the masks of one call, in MiB; a mask has a byte for each pixel.
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
    masks_mib: PositiveCount = 1024
    texts: PositiveCount = 64
    file_mib: PositiveCount = 64
    kept: PositiveCount = 64
    kept_mib: PositiveCount = 1024

    def most_regions(self, size: tuple[int, int]) -> int:
        """How many regions of an image of `size` (W, H) one call may have; 1 at least."""
        return min(self.regions, masks_within(self.masks_mib, size))

    def check_regions(self, count: int, size: tuple[int, int]) -> None:
        """Raise InputError for more regions than `most_regions`."""
        most = self.most_regions(size)
        if count > most:
            raise InputError(
                f"regions: expected at most {most} of an image of {size[0]} x {size[1]} pixels,"
                f" found {count}; make several calls"
            )

    def check_texts(self, count: int) -> None:
        """Raise InputError for too many texts."""
        if count > self.texts:
            raise InputError(
                f"texts: expected at most {self.texts}, found {count}; make several calls"
            )
