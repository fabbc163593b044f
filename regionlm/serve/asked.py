"""The body of a request: JSON, or multipart with the files as parts of their own."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Awaitable
from dataclasses import dataclass, field
from email.message import Message
from typing import Any, Generic, TypeVar

from regionlm.errors import InputError
from regionlm.extras import extra
from regionlm.inputs.encoded_files import file_bytes
from regionlm.serve.engine import Engine
from regionlm.serve.errors import MalformedError, UnusableError
from regionlm.serve.json_size import JsonSize
from regionlm.serve.net.urls import is_address
from regionlm.serve.question import Kind, Question
from regionlm.serve.readers import off_loop
from regionlm.serve.reading import given_options, parse, read_regions
from regionlm.serve.schemas import Asking

with extra("serve"):
    from starlette.datastructures import UploadFile
    from starlette.requests import ClientDisconnect, Request

Result = TypeVar("Result")

_MORE_FILES = 1000  # than regions: they get their own refusal; of more, the parser has one
_FIELDS = 100  # likewise, though one is enough
AnyAsking = TypeVar("AnyAsking", bound=Asking)


@dataclass
class Asked(Generic[AnyAsking]):
    """What a request says, and the files that came with it."""

    form: AnyAsking
    image: bytes | None = None
    masks: list[tuple[str, bytes]] = field(default_factory=list)
    """Names and bytes of mask files, after the regions of the form."""

    def question(
        self, engine: Engine, kind: Kind, deadline: float, *, needs_region: bool = True
    ) -> Question:
        """What the engine is to answer. It takes the time of decoding, so not for the event loop.

        Raises:
            InputError: an image or region that can't be used. QueueFullError: no room.
        """
        form, bounds = self.form, engine.limits.bounds
        bounds.check_regions(len(form.regions) + len(self.masks))
        for one in form.regions:
            bounds.check_points(one.points)
        if needs_region and not form.regions and not self.masks:
            raise UnusableError("regions: expected at least one, found none", param="regions")
        view = engine.view(self.image_bytes())
        forms = [one.model_dump(exclude_none=True) for one in form.regions]
        regions = read_regions(forms, view, bounds, engine.segmenter, self.masks)
        texts, options = list(getattr(form, "texts", ())), given_options(form.options)
        return Question(kind, view, regions, texts, options, deadline=deadline)

    def image_bytes(self) -> bytes:
        """The image's file.

        Raises:
            InputError: neither base64 nor a data: URI. UnusableError: none.
        """
        if self.image is not None:
            return self.image
        if self.form.image is None:
            raise UnusableError("image: expected base64 or a data: URI, found none", param="image")
        return file_bytes(self.form.image, "image")


async def read_request(request: Request, form: type[AnyAsking]) -> Asked[AnyAsking]:
    """The form of a request and its files.

    Raises:
        MalformedError: not JSON. UnusableError: JSON of another form. InputError: two images, or
        one at an address that is not fetched. TooLateError: the request's time is over.
    """

    async def parsed(body: bytes) -> AnyAsking:
        return await off_loop(lambda: parse(form, body), deadline_of(request))

    content = Message()
    content["content-type"] = request.headers.get("content-type", "")
    if content.get_content_type() != "multipart/form-data":
        return await _fetched(request, Asked(await parsed(await request.body())))
    whole = _multipart(request, await request.body(), content)
    limits = request.app.state.engine.limits
    most = int(limits.max_body_mib * 2**20)
    async with whole.form(
        max_files=limits.max_regions + _MORE_FILES, max_fields=_FIELDS, max_part_size=most
    ) as parts:
        said = await _bytes_of(parts.get("request", "{}"))
        JsonSize(said).check()
        asked = Asked(await parsed(said))
        for key, part in parts.multi_items():
            if key == "image" and asked.image is None:
                asked.image = await _bytes_of(part)
            elif key == "mask":
                name = (getattr(part, "filename", None) or f"mask {len(asked.masks)}")[:200]
                asked.masks.append((name, await _bytes_of(part)))
            elif key != "request":
                raise UnusableError(
                    f"{key[:100]}: expected one part image, any number of parts mask and one part"
                    " request, which has all else as JSON"
                )
    if asked.image is not None and asked.form.image is not None:
        raise InputError("image: found one in the JSON and one as a file; leave one of them out")
    return await _fetched(request, asked)


def _multipart(request: Request, body: bytes, content: Message) -> Request:
    """The request with its media type in lower case, as some versions of the parser need it.

    Raises MalformedError for parts that were cut off, of which the parser leaves out the last.
    """
    boundary = str(content.get_boundary() or "").encode("latin-1", "replace")
    if not boundary or b"--" + boundary + b"--" not in body:
        raise MalformedError("expected multipart/form-data that ends with its boundary")

    async def again() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    header = (b"content-type", b'multipart/form-data; boundary="' + boundary + b'"')
    return Request({**request.scope, "headers": [header]}, again)


async def _fetched(request: Request, asked: Asked[AnyAsking]) -> Asked[AnyAsking]:
    """The image's bytes in place of its address, if that is what the form has."""
    address = asked.form.image or ""
    if is_address(address):
        state = request.app.state
        state.engine.check_room()
        data = await unless_gone(
            request, state.fetcher.fetch(address, deadline=deadline_of(request))
        )
        asked.form.image, asked.image = None, data
    return asked


async def _bytes_of(part: UploadFile | str) -> bytes:
    return await part.read() if isinstance(part, UploadFile) else part.encode()


def deadline_of(request: Request) -> float:
    """When a request's answer is too late, by `time.monotonic`: it counts from the arrival."""
    arrived: float = getattr(request.state, "arrived", None) or time.monotonic()
    limit: float = request.app.state.engine.limits.timeout
    return arrived + limit


def request_id(request: Request) -> str:
    """The request's id: ``request.state.request_id`` if something has set it, or a new one."""
    return getattr(request.state, "request_id", None) or uuid.uuid4().hex


async def unless_gone(request: Request, work: Awaitable[Result]) -> Result:
    """Wait for work, and cancel it when the client goes. For requests whose body has been read.

    Raises:
        ClientDisconnect: nobody waits for the answer any more.
    """
    working, gone = asyncio.ensure_future(work), asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait({working, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        working.cancel()
        gone.cancel()


async def _gone(request: Request) -> None:
    message: Any = {}
    while message.get("type") != "http.disconnect":
        message = await request.receive()
