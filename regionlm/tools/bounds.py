"""How much one call of a tool may ask for."""

from __future__ import annotations

from collections.abc import Sized
from dataclasses import dataclass
from typing import Annotated, ClassVar

from prefix_models.checks import Checked, PositiveCount, Range
from regionlm.errors import InputError

MIB = 2**20

Mebibytes = Annotated[float, Range(above=0, most=1e6)]


@dataclass(frozen=True, kw_only=True)
class Bounds(Checked):
    """how much one call may ask for.

    Args:
        pixels: Most pixels of an image or mask.
        regions: Most regions in one call.
        points: Most points of a region.
        masks_mib: Most memory of the masks of one call, in MiB; a mask has a byte for each pixel.
        texts: Most texts in one call.
        file_mib: Largest file of an image or mask, in MiB.
        kept: Most images and masks that are remembered by their id; the one that was not asked
            about for longest is forgotten first.
        kept_mib: Most memory of all that is remembered, in MiB; the newest is, whatever its size.

    Raises:
        InputError: a number out of range.
    """

    error: ClassVar[type[InputError]] = InputError

    pixels: PositiveCount = 50_000_000
    regions: PositiveCount = 64
    points: PositiveCount = 64
    masks_mib: Mebibytes = 1024
    texts: PositiveCount = 64
    file_mib: Mebibytes = 64
    kept: PositiveCount = 64
    kept_mib: Mebibytes = 1024

    def most_regions(self, size: tuple[int, int] | None = None) -> int:
        """How many regions one call may have; of an image of `size` (W, H), if that is known, no
        more than the memory holds, but 1 at least."""
        if size is None:
            return self.regions
        return min(self.regions, self._most_masks(size))

    def check_regions(self, count: int, size: tuple[int, int] | None = None) -> None:
        """Raise InputError for more regions than `most_regions`."""
        _check("regions", count, self.most_regions(size), _of(size))

    def check_maps(self, count: int, size: tuple[int, int]) -> None:
        """Raise InputError for more relevance maps of an image of `size` (W, H) than the memory
        holds, a byte a pixel."""
        _check("texts and regions", count, self._most_masks(size), _of(size))

    def check_points(self, points: Sized | None) -> None:
        """Raise InputError for too many points of a region; None: it has none."""
        _check("points", len(points or ()), self.points, " of a region")

    def check_texts(self, count: int, name: str = "texts") -> None:
        """Raise InputError for too many texts; name: of the argument that has them."""
        _check(name, count, self.texts)

    def _most_masks(self, size: tuple[int, int]) -> int:
        return max(1, int(self.masks_mib * MIB) // (size[0] * size[1]))


def _of(size: tuple[int, int] | None) -> str:
    return f" of an image of {size[0]} x {size[1]} pixels" if size else ""


def _check(name: str, found: int, most: int, of: str = "") -> None:
    if found > most:
        raise InputError(f"{name}: expected at most {most}{of}, found {found}; ask several times")
