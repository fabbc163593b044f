"""Lines of a manifest as images with masks, which threads read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from PIL import Image

from regionlm.bulk.manifest import Line, Lines
from regionlm.distributed.journal import Answer
from regionlm.errors import InputError
from regionlm.inputs.images import open_image, open_image_bytes
from regionlm.inputs.masks import Region
from regionlm.inputs.regions import name_of, read_region
from regionlm.points.segmenter import load_segmenter


@dataclass(frozen=True)
class BadRegion:
    """A region that can't be read, and the reason."""

    name: str
    error: str


@dataclass(frozen=True)
class Picture:
    """A line with its image and regions, in the order of the line.

    places: for each region its position in the line, and its number among those of a label map.
    """

    line: Line
    image: Image.Image
    regions: list[Region | BadRegion]
    places: list[tuple[int, int]]


class Pictures:
    """The lines of a manifest, by index from 0.

    Args:
        manifest: the lines.
        skip_bad: replace a region that can't be read by a `BadRegion`, instead of raising.
    """

    def __init__(self, manifest: Lines, skip_bad: bool) -> None:
        self.manifest, self.skip_bad = manifest, skip_bad
        self._segmenter = load_segmenter()

    def __len__(self) -> int:
        """Number of lines."""
        return len(self.manifest)

    def __getitem__(self, index: int) -> Picture:
        """Read the image and the regions of a line.

        Raises InputError: the image or, unless they are skipped, a region can't be read.
        """
        line = self.manifest[index]
        try:
            image = _open(line)
            picture = Picture(replace(line, data=None), image, [], [])
            for position, region in enumerate(line.regions):
                found: list[Region | BadRegion]
                try:
                    find_mask = partial(self._segmenter.mask, image)
                    found = [*read_region(region, position, line.folder, image.size, find_mask)]
                except InputError as error:
                    if not self.skip_bad:
                        raise
                    found = [BadRegion(name_of(region, position), str(error))]
                picture.regions.extend(found)
                picture.places.extend((position, label) for label in range(len(found)))
        except InputError as error:
            if self.skip_bad:  # the output names the line
                raise
            raise InputError(f"{self.manifest.place(index)}: {error}") from error
        return picture

    def unreadable(self, index: int, error: InputError) -> Answer:
        """The line of the output for an image that can't be read."""
        line = self.manifest[index]
        return {"id": line.id, "image": line.image, "error": " ".join(str(error).split())}


def _open(line: Line) -> Image.Image:
    if line.problem:
        raise InputError(line.problem)
    if line.data is not None:
        return open_image_bytes(line.data, f"image {line.image}")
    return open_image(line.folder / line.image)


def is_bad(answer: Answer) -> bool:
    """Whether a line of the output has an image or a region that could not be read."""
    return "error" in answer or any("error" in row for row in answer.get("regions", ()))
