"""What tools answer with: figures by name, the same in words, and pictures."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from PIL.Image import Image

Found = TypeVar("Found")


@dataclass(frozen=True)
class Answer(Generic[Found]):
    """The answer of a tool.

    Args:
        found: A dataclass of what was found.
        text: The same in words, for those that read no structured content; a line a region.
        pictures: PNG files, at most about a megapixel each.
    """

    found: Found
    text: str
    pictures: list[bytes] = field(default_factory=list, repr=False)

    @property
    def structured(self) -> dict[str, Any]:
        """What was found, in JSON values by name."""
        return asdict(self.found)  # type: ignore[call-overload, no-any-return]


@dataclass(frozen=True)
class OfImage:
    """An answer about an image.

    Args:
        image: Id of the image, to be given in place of it from now on.
    """

    image: str


@dataclass(frozen=True)
class OfRegions(OfImage):
    """An answer about regions of an image.

    Args:
        width: Of the image, in pixels.
        height: Of the image, in pixels.
    """

    width: int
    height: int


@dataclass(frozen=True)
class CaptionedRegion:
    """A region and what it shows.

    Args:
        region: Its id, or a description.
        box: [x0, y0, x1, y1] around it, in pixels of the image.
        caption: What it shows.
        logprob: Natural-log probability of the caption.
        dice: How well the model looks where the region is, 0 to 1; below about 0.3 the caption
            may be about something else. null if the model can't say.
        iou: The same, as intersection over union.
        cosine_to_image: How close the region's vector is to the whole image's; near 1, the caption
            is about the image rather than the region.
    """

    region: str
    box: list[int]
    caption: str
    logprob: float
    dice: float | None
    iou: float | None
    cosine_to_image: float


@dataclass(frozen=True)
class Captions(OfRegions):
    """Captions of an image's regions.

    Args:
        regions: One for each region, in the order asked.
    """

    regions: list[CaptionedRegion]


@dataclass(frozen=True)
class TextScore:
    """How well a text fits a region.

    Args:
        text: The text.
        probability: Of this text among the texts given; they add up to 1.
        similarity: Cosine of the text's vector and the region's.
    """

    text: str
    probability: float
    similarity: float


@dataclass(frozen=True)
class Match(OfImage):
    """Texts ranked by how well they fit a region.

    Args:
        region: Its id, or a description.
        ranking: The texts, the most likely first.
    """

    region: str
    ranking: list[TextScore]


@dataclass(frozen=True)
class Place(OfImage):
    """Where a text is in an image.

    Args:
        text: What was looked for.
        box: [x0, y0, x1, y1] around what was found, in pixels of the image.
        mask: Id of its mask, to be given as the mask of a region.
        peak: [x, y] of the most relevant pixel.
        share: How much of all relevance is in the mask, 0 to 1.
        coverage: How much of the image the mask covers, 0 to 1.
    """

    text: str
    box: list[int]
    mask: str
    peak: list[int]
    share: float
    coverage: float


@dataclass(frozen=True)
class ShownRegion:
    """A region as it is drawn.

    Args:
        number: Written at the region.
        region: Its id, or a description.
        box: [x0, y0, x1, y1] around it, in pixels of the image.
        coverage: How much of the image it covers, 0 to 1.
    """

    number: int
    region: str
    box: list[int]
    coverage: float


@dataclass(frozen=True)
class Shown(OfRegions):
    """Which regions a picture shows.

    Args:
        regions: One for each region, in the order asked.
    """

    regions: list[ShownRegion]


def png(picture: Image) -> bytes:
    """A picture as a PNG file."""
    file = io.BytesIO()
    picture.save(file, "PNG")
    return file.getvalue()


def lines(*parts: str | Sequence[str]) -> str:
    """Lines of text; each is one line, whatever a language model writes."""
    flat = [one for part in parts for one in ([part] if isinstance(part, str) else part)]
    return "\n".join(" ".join(one.split()) for one in flat)
