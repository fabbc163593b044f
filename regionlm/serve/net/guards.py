"""Puts what stands before the service around it, in the order that it has to have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from regionlm.errors import InputError
from regionlm.extras import extra
from regionlm.serve.net.log_lines import LogLines
from regionlm.serve.net.pages import JsonOrForms, LoopbackOnly
from regionlm.serve.net.requests import Counted, Failures, Requests
from regionlm.serve.net.tokens import OPEN_PATHS, BearerTokens

with extra("serve"):
    from starlette.middleware.cors import CORSMiddleware

if TYPE_CHECKING:
    from starlette.applications import Starlette


def add_guards(
    app: Starlette,
    *,
    tokens: Sequence[str] = (),
    open_paths: Sequence[str] = OPEN_PATHS,
    origins: Sequence[str] = (),
    is_local: bool = False,
    log: LogLines | None = None,
    count: Counted | None = None,
) -> None:
    """Let requests pass by id, log and figures, CORS, errors, and then hosts, tokens and kinds of
    bodies. Call it after all other middleware.

    CORS comes before tokens: a browser asks whether it may ask without sending one. It comes before
    errors, so that pages can read of them, too.

    Args:
        tokens: that clients need; none lets in anybody.
        open_paths: what needs no token.
        origins: of the pages that may use the service, such as "https://example.org"; "*" is any.
        is_local: listens on loopback alone; without tokens, `LoopbackOnly` keeps other sites away.
        log: None writes no line for a request.
        count: None counts none.

    Raises:
        InputError: an origin that is none.
    """
    check_origins(origins)
    app.add_middleware(JsonOrForms)
    if tokens:
        app.add_middleware(BearerTokens, tokens=tokens, open_paths=open_paths)
    elif is_local and "*" not in origins:
        app.add_middleware(LoopbackOnly, origins=origins, open_paths=OPEN_PATHS)
    app.add_middleware(Failures)
    if origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(origins),
            allow_methods=["GET", "POST"],
            allow_headers=["*"],
            expose_headers=["X-Request-ID", "Retry-After"],
        )
    app.add_middleware(Requests, log=log, count=count)


def check_origins(origins: Sequence[str]) -> None:
    """Raise InputError for what no browser would send as a page's origin."""
    for origin in origins:
        parts = urlsplit(origin)
        whole = f"{parts.scheme}://{parts.netloc}"
        if origin != "*" and (not parts.scheme or not parts.netloc or origin != whole):
            raise InputError(
                f"cors_origins: expected an origin such as https://example.org, without a path or a"
                f" slash at its end; found {origin!r}"
            )
