"""What one request may ask for, and how much may wait. Nothing heavy may be imported here."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, ClassVar

from prefix_models.checks import Checked, PositiveCount, Range
from regionlm.errors import InputError
from regionlm.tools.bounds import Bounds, Mebibytes

Seconds = Annotated[float, Range(above=0, most=1e6)]
MOST = 10_000
"""Of regions, points of a region, and texts, whatever the limits: reading more takes seconds."""
CountInList = Annotated[int, Range(1, MOST)]


@dataclass(frozen=True, kw_only=True)
class Limits(Checked):
    """what one request may ask for, and how much may wait.

    Args:
        max_body_mib: Largest body of a request, MiB (413).
        max_pixels: Most pixels of an image or mask; known before it is decoded (422).
        max_regions: Most regions of a request, and of all that are worked together (422).
        max_points: Most points of a region (422).
        max_texts: Most texts of a request (422).
        max_text_length: Longest text, in characters (422).
        max_tokens: Most tokens of a caption (422).
        max_steps: Most steps of maskinversion (422).
        max_size: Longest side of the model's input, in pixels (422).
        max_beams: Largest beam (422).
        max_queue: Most questions that wait for the model (429).
        queue_mib: Most memory of images and masks that wait, MiB, and of all bodies that are being
            sent or answered (429), and of the masks or maps of one request (422).
        max_batch: Most questions that are worked together.
        timeout: Seconds from a request's arrival to its answer (504).
        client_timeout: Seconds that a client may take for the next part of its request (408, or the
            connection is closed), or to read the next part of its reply (the connection is closed).
        cache_mib: Memory for images that were seen before, with what the model has computed of
            them, MiB; a quarter of it for answers given before; and another one for masks that
            agents know by an id.

    Raises:
        InputError: a limit out of range.
    """

    error: ClassVar[type[InputError]] = InputError

    max_body_mib: Mebibytes = 32
    max_pixels: PositiveCount = 32_000_000
    max_regions: CountInList = 64
    max_points: CountInList = 64
    max_texts: CountInList = 256
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

    @cached_property
    def bounds(self) -> Bounds:
        """What one request may have, through whichever face it comes."""
        return Bounds(
            pixels=self.max_pixels,
            regions=self.max_regions,
            points=self.max_points,
            masks_mib=self.queue_mib,
            texts=self.max_texts,
            file_mib=self.max_body_mib,
            kept_mib=self.cache_mib / 4,
        )
