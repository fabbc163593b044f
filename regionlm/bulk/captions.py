"""The captions of one line of a manifest."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from regionlm.bulk.items import BadRegion, Picture
from regionlm.captioner import RegionCaptioner
from regionlm.distributed.journal import Answer
from regionlm.embedders.embedder import Embedder
from regionlm.llava_captioner import LlavaCaptioner


class LineCaptions:
    """Captions the regions of one line at a time.

    Args:
        captioner: writes the captions.
        embedder: embeds the regions with the captioner's backbone.
        decoding: options of ``ClipCap.generate``. Each region gets its own seed, made of ``seed``,
            the number of the line and the place of the region in it.
    """

    def __init__(
        self,
        captioner: RegionCaptioner | LlavaCaptioner,
        embedder: Embedder,
        decoding: Mapping[str, Any],
    ) -> None:
        self.captioner, self.embedder = captioner, embedder
        self.decoding = dict(decoding)
        self.seed = self.decoding.pop("seed", 0)

    def __call__(self, index: int, picture: Picture) -> Answer:
        """Return the line of the output, as `caption_manifest` describes it."""
        good = [region for region in picture.regions if not isinstance(region, BadRegion)]
        rows = iter(self._caption(picture, good))
        regions = [
            {"region": region.name, "error": region.error}
            if isinstance(region, BadRegion)
            else next(rows)
            for region in picture.regions
        ]
        line = {"id": picture.line.id, "image": picture.line.image, **self.embedder.record}
        return {**line, "regions": regions}

    def _caption(self, picture: Picture, good: list[Any]) -> list[dict[str, Any]]:
        if not good:
            return []
        seeds = [
            _seed(self.seed, picture.line.number, *place)
            for region, place in zip(picture.regions, picture.places, strict=True)
            if not isinstance(region, BadRegion)
        ]
        found = self.captioner.caption(
            picture.image, good, embedder=self.embedder, seed=seeds, **self.decoding
        )
        return [caption.to_dict() for caption in found]


def _seed(*numbers: int) -> int:
    """Combine numbers of at least 0 into one seed below 2^63, the most that torch accepts."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
