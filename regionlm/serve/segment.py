"""POST /v1/segment: the region that points mark, for pages whose users click."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

from regionlm.errors import InputError
from regionlm.extras import extra
from regionlm.inputs.coco_masks import mask_rle
from regionlm.inputs.points import read_points
from regionlm.serve.asked import Asked, deadline_of, read_request, request_id
from regionlm.serve.documentation import documented
from regionlm.serve.errors import QueueFullError, TooLateError
from regionlm.serve.replies import png_uri
from regionlm.serve.schemas import SegmentReply, SegmentRequest

with extra("serve"):
    from fastapi import APIRouter, Request
    from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine

_MOST_POINTS = 64
_MOST_WAITING = 8  # each takes a second or two
_THREADS = ThreadPoolExecutor(2, "segmenter")  # of its own: others read the images of all requests


def segment_router(engine: Engine) -> APIRouter:
    """The route, which asks an engine's segmenter."""
    router = APIRouter(tags=["regions"])
    waiting = 0

    def one_less(work: asyncio.Future[Any]) -> None:
        nonlocal waiting
        waiting -= 1
        if not work.cancelled():
            work.exception()  # seen, though nobody may wait for it any more

    @router.post("/v1/segment", **documented(SegmentRequest, SegmentReply))
    async def segment(request: Request) -> Response:
        """Find the region that points of an image mark."""
        nonlocal waiting
        asked = await read_request(request, SegmentRequest)
        if asked.form.regions or asked.masks or asked.form.options is not None:
            raise InputError("segment: expected an image and points, and nothing else")
        if waiting >= _MOST_WAITING:
            raise QueueFullError("too many points wait; try again in 2 s", retry_after=2)
        waiting += 1
        loop = asyncio.get_running_loop()
        work = loop.run_in_executor(_THREADS, lambda: _found(engine, asked))
        work.add_done_callback(one_less)  # only then is its thread free
        try:
            found = await asyncio.wait_for(
                asyncio.shield(work), deadline_of(request) - time.monotonic()
            )
        except asyncio.TimeoutError:
            raise TooLateError("no region found in time; try again later") from None
        return JSONResponse({"id": request_id(request), **found})

    return router


def _found(engine: Engine, asked: Asked[SegmentRequest]) -> dict[str, Any]:
    points = asked.form.points
    if len(points) > _MOST_POINTS:
        raise InputError(f"points: expected at most {_MOST_POINTS} here, found {len(points)}")
    view, segmenter = engine.view(asked.image_bytes()), engine.segmenter
    mask = segmenter.mask(view.image, read_points(points, view.size))
    return {
        "region": {"rle": mask_rle(mask)},
        "mask": png_uri(mask),
        "method": segmenter.method,
        "note": segmenter.note,
    }
