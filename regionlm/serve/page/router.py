"""Sends the web page and its files."""

from __future__ import annotations

import hashlib
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import PurePosixPath

from regionlm.extras import extra

with extra("serve"):
    from fastapi import APIRouter
    from starlette.requests import Request
    from starlette.responses import Response

_FILES = files("regionlm.serve.page") / "static"
_NAMES = sorted(
    f"{folder}{file.name}"
    for folder in ("", "examples/")
    for file in (_FILES / folder).iterdir()
    if PurePosixPath(file.name).suffix in (".css", ".js", ".svg", ".jpg")
)

PAGE_PATHS = ("/", *(f"/page/{name}" for name in _NAMES))
"""What a browser asks for before anyone can type a token."""

HEADERS = {
    # Nothing inline, nothing from elsewhere; pictures that a user opens are data: and blob:.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self';"
    " img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none';"
    " frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",  # asked again, and answered with 304 if nothing has changed
}


def page_router() -> APIRouter:
    """Routes of the page: / and, for each of its files, /page/NAME. They need no token."""
    router = APIRouter()
    for path in PAGE_PATHS:
        name = path.removeprefix("/page/") if path != "/" else "index.html"
        router.add_route(path, _sender(name), methods=["GET"], include_in_schema=False)
    return router


def _sender(name: str) -> Callable[[Request], Awaitable[Response]]:
    """What answers with a file."""
    content = _FILES.joinpath(name).read_bytes()
    kind = _TYPES[PurePosixPath(name).suffix]
    headers = {**HEADERS, "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}

    async def send(request: Request) -> Response:
        if request.headers.get("if-none-match") == headers["ETag"]:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers, media_type=kind)

    return send


# Not the machine's own table of types, which may call modules text/plain.
_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}
