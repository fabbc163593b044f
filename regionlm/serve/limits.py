"""What one request may ask for, and how much may wait. Nothing heavy may be imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from prefix_models.checks import Checked, PositiveCount, Range
from regionlm.errors import InputError
from regionlm.tools.bounds import masks_within

Mebibytes = Annotated[float, Range(above=0, most=1e6)]
Seconds = Annotated[float, Range(above=0, most=1e6)]


@dataclass(frozen=True, kw_only=True)
class Limits(Checked):
    """what one request may ask for, and how much may wait.

    Args:
        max_body_mib: Largest body of a request, MiB (413).
        max_pixels: Most pixels of an image or mask; known before it is decoded (422).
        max_regions: Most regions of a request, and of all that are worked together (422).
        max_texts: Most texts of a request (422).
        max_text_length: Longest text, in characters (422).
        max_tokens: Most tokens of a caption (422).
        max_steps: Most steps of maskinversion (422).
        max_size: Longest side of the model's input, in pixels (422).
        max_beams: Largest beam (422).
        max_queue: Most questions that wait for the model (429).
        queue_mib: Most memory of images and masks that wait, MiB, and of all bodies that are being
            sent or answered (429), and of the masks of one request (422).
        max_batch: Most questions that are worked together.
        timeout: Seconds from a request's arrival to its answer (504).
        client_timeout: Seconds that a client may take for the next part of its request (408, or the
            connection is closed), or to read the next part of its reply (the connection is closed).
        cache_mib: Memory for images that were seen before, with what the model has computed of
            them, MiB; and a quarter of it for answers given before.

    Raises:
        InputError: a limit out of range.
    """

    error: ClassVar[type[InputError]] = InputError

    max_body_mib: Mebibytes = 32
    max_pixels: PositiveCount = 32_000_000
    max_regions: PositiveCount = 64
    max_texts: PositiveCount = 256
    max_text_length: PositiveCount = 2000
    max_tokens: PositiveCount = 256
    max_steps: PositiveCount = 100
    max_size: PositiveCount = 1024
    max_beams: PositiveCount = 16
    max_queue: PositiveCount = 64
    queue_mib: Mebibytes = 1024
    max_batch: PositiveCount = 16
    timeout: Seconds = 60
    client_timeout: Seconds = 15
    cache_mib: Mebibytes = 256

    def most_regions(self, size: tuple[int, int]) -> int:
        """How many regions of an image of `size` (W, H) a request may have; 1 at least."""
        return min(self.max_regions, masks_within(self.queue_mib, size))

    def check_regions(self, found: int, size: tuple[int, int] | None = None) -> None:
        """Raise InputError for more regions than a request may have; size: (W, H) if known."""
        if size is not None and found > (most := self.most_regions(size)):
            width, height = size
            raise InputError(
                f"regions: expected at most {most} of an image of {width} x {height} pixels,"
                f" found {found}; send several requests"
            )
        if found > self.max_regions:
            raise InputError(
                f"regions: expected at most {self.max_regions}, found {found}; send several"
                " requests"
            )
