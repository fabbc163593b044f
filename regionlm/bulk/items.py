"""Lines of a manifest as pictures with masks, read by threads."""

from __future__ import annotations

from dataclasses import dataclass

from PIL import Image

from regionlm.bulk.manifest import Line, Manifest
from regionlm.distributed.journal import Answer
from regionlm.errors import InputError
from regionlm.inputs.images import open_image
from regionlm.inputs.masks import Region
from regionlm.inputs.regions import name_of, read_region


@dataclass(frozen=True)
class BadRegion:
    """A region that can't be used, and why."""

    name: str
    error: str


@dataclass(frozen=True)
class Picture:
    """A line with its image and regions, which keep the line's order.

    places: of each region, where its line has it, and which it is of a label map's.
    """

    line: Line
    image: Image.Image
    regions: list[Region | BadRegion]
    places: list[tuple[int, int]]


class Pictures:
    """All lines of a manifest, by index from 0.

    Args:
        manifest: the lines.
        skip_bad: keep why a region can't be read, and go on with the line's others.
    """

    def __init__(self, manifest: Manifest, skip_bad: bool) -> None:
        self.manifest, self.skip_bad = manifest, skip_bad

    def __len__(self) -> int:
        """How many lines."""
        return len(self.manifest)

    def __getitem__(self, index: int) -> Picture:
        """Read a line's image and regions.

        Raises InputError: the image or, unless they are skipped, a region can't be read.
        """
        line, folder = self.manifest[index], self.manifest.folder
        try:
            image = open_image(folder / line.image)
            picture = Picture(line, image, [], [])
            for position, region in enumerate(line.regions):
                found: list[Region | BadRegion]
                try:
                    found = [*read_region(region, position, folder, image.size)]
                except InputError as error:
                    if not self.skip_bad:
                        raise
                    found = [BadRegion(name_of(region, position), str(error))]
                picture.regions.extend(found)
                picture.places.extend((position, label) for label in range(len(found)))
        except InputError as error:
            if self.skip_bad:  # the output says which line
                raise
            raise InputError(f"{self.manifest.place(index)}: {error}") from error
        return picture

    def unreadable(self, index: int, error: InputError) -> Answer:
        """The output's line in place of one whose image can't be read."""
        line = self.manifest[index]
        return {"id": line.id, "image": line.image, "error": " ".join(str(error).split())}


def is_bad(answer: Answer) -> bool:
    """Whether a line of the output says that its image, or one of its regions, can't be read."""
    return "error" in answer or any("error" in row for row in answer.get("regions", ()))
