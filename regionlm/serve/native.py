"""The native API: what the Python API does, over HTTP."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

from regionlm.extras import extra
from regionlm.serve.question import Question
from regionlm.serve.reading import check_count, file_bytes, given_options, parse, read_regions
from regionlm.serve.schemas import CaptionRequest

with extra("serve"):
    from fastapi import APIRouter, Request

if TYPE_CHECKING:
    from regionlm.captioner import RegionCaption
    from regionlm.serve.engine import Engine

Result = TypeVar("Result")


def native_router(engine: Engine) -> APIRouter:
    """Routes under /v1 that ask an engine."""
    router = APIRouter()

    @router.post("/v1/caption")
    async def caption(request: Request) -> dict[str, Any]:
        """Say in words what is in each region of an image."""
        arrived = time.monotonic()
        body = await request.body()
        question = await off_loop(lambda: _caption_question(engine, body, arrived))
        found: list[RegionCaption] = await engine.ask(question)
        rows = [one.to_dict() for one in found]
        return {"id": request_id(request), "model": engine.name, "regions": rows}

    return router


def request_id(request: Request) -> str:
    """The request's id: ``request.state.request_id`` if something has set it, or a new one."""
    return getattr(request.state, "request_id", None) or uuid.uuid4().hex


async def off_loop(work: Callable[[], Result]) -> Result:
    """Do what takes time, such as decoding images, on a thread."""
    return await asyncio.get_running_loop().run_in_executor(None, work)


def _caption_question(engine: Engine, body: bytes, arrived: float) -> Question:
    asked = parse(CaptionRequest, body)
    check_count(len(asked.regions), engine.limits)
    view = engine.view(file_bytes(asked.image, "image"))
    forms = [one.model_dump(exclude_unset=True) for one in asked.regions]
    regions = read_regions(forms, view, engine.limits)
    options = given_options(asked.options)
    deadline = arrived + engine.limits.timeout
    return Question("caption", view, regions, options=options, deadline=deadline)
