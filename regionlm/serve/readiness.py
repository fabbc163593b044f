"""Whether the model answers: a question of our own."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from regionlm.errors import ModelError
from regionlm.inputs.masks import box_region
from regionlm.inputs.views import ImageView
from regionlm.serve.errors import ClosingError
from regionlm.serve.question import Kind, Question

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine

_SIDE = 64


class Readiness:
    """Asks the engine once, and remembers that it has answered.

    Args:
        engine: what is asked.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._has_passed = False
        self._asking = asyncio.Lock()

    async def check(self) -> None:
        """Return if the model answers and new questions are taken.

        Raises:
            ServiceError, UserError: why not.
        """
        if self._engine.is_closing:
            raise ClosingError("the service is stopping")
        async with self._asking:
            if not self._has_passed:
                await self_check(self._engine)
                self._has_passed = True
        self._engine.check_room()
        self._engine.start()  # if it has died


async def self_check(engine: Engine, count: int = 1, deadline: float | None = None) -> None:
    """Ask questions about drawn pictures, together.

    deadline: of the questions, see `Question`.

    Raises:
        ServiceError, UserError: no answer. ModelError: an answer that is not finite.
    """
    asked = [_question(engine, number, deadline) for number in range(count)]
    for found in await asyncio.gather(*map(engine.ask, asked)):
        figures = [one.logprob for one in found] if isinstance(found, list) else [0.0]
        if not all(map(math.isfinite, figures)):
            raise ModelError(f"{engine.name}: an answer is not finite; load other weights")


def _question(engine: Engine, number: int, deadline: float | None) -> Question:
    row = np.linspace(0, 255, _SIDE, dtype=np.uint8)
    pixels = np.stack([np.tile(row, (_SIDE, 1)), np.tile(row[:, None], (1, _SIDE))], axis=2)
    blue = np.full((_SIDE, _SIDE, 1), number % 256, np.uint8)
    view = ImageView(Image.fromarray(np.concatenate([pixels, blue], axis=2)))
    kind: Kind = "caption" if hasattr(engine.model, "caption") else "embed"
    regions = [box_region([16, 16, 48, 48], view.size)]
    return Question(kind, view, regions, deadline=deadline)
