"""POST /v1/segment: the region that points mark, for pages whose users click."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any

from regionlm.errors import InputError
from regionlm.extras import extra
from regionlm.inputs.coco_masks import mask_rle
from regionlm.inputs.points import read_points
from regionlm.serve.asked import Asked, deadline_of, read_request, request_id
from regionlm.serve.documentation import documented
from regionlm.serve.errors import QueueFullError, TooLateError
from regionlm.serve.readers import in_time
from regionlm.serve.replies import png_uri
from regionlm.serve.schemas import SegmentReply, SegmentRequest

with extra("serve"):
    from fastapi import APIRouter, Request
    from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine

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
        deadline = deadline_of(request)
        reply = partial(_reply, engine, asked, request_id(request))
        work = asyncio.get_running_loop().run_in_executor(_THREADS, in_time, reply, deadline)
        work.add_done_callback(one_less)  # only then is its thread free
        try:
            return await asyncio.wait_for(asyncio.shield(work), deadline - time.monotonic())
        except asyncio.TimeoutError:
            raise TooLateError from None

    return router


def _reply(engine: Engine, asked: Asked[SegmentRequest], name: str) -> Response:
    points = asked.form.points
    engine.limits.bounds.check_points(points)
    view, segmenter = engine.view(asked.image_bytes()), engine.segmenter
    mask = segmenter.mask(view.image, read_points(points, view.size))
    return JSONResponse(
        {
            "id": name,
            "region": {"rle": mask_rle(mask)},
            "mask": png_uri(mask),
            "method": segmenter.method,
            "note": segmenter.note,
        }
    )
