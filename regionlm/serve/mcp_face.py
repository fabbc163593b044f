"""The tools for agents at /mcp: MCP over streamable HTTP, answered by the engine."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from regionlm.extras import extra
from regionlm.serve.errors import is_our_fault
from regionlm.tools import Bounds, Workspace

with extra("serve"):
    from starlette.applications import Starlette
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from mcp.server import Server

    from regionlm.serve.engine import Engine
    from regionlm.serve.limits import Limits

PATH = "/mcp"


def mount_mcp(app: Starlette, engine: Engine) -> None:
    """Serve the tools at /mcp, if the extra `mcp` is installed.

    Images come as data: URIs or by the id of an earlier answer; no file of this machine is read.
    Which hosts and origins requests may name, `regionlm.serve.net.pages` says for the whole app.

    Args:
        app: in whose lifespan it runs.
        engine: that answers; its limits hold.
    """
    if find_spec("mcp") is None:
        return
    face = _Face(_server(engine), engine.limits)
    app.router.routes.append(Route(PATH, endpoint=face, methods=["POST"]))
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with before(app) as state, face.running():
            yield state

    app.router.lifespan_context = lifespan


def bounds(limits: Limits) -> Bounds:
    """The limits of a service, as those of a tool's call."""
    return Bounds(
        pixels=limits.max_pixels,
        regions=limits.max_regions,
        masks_mib=math.ceil(limits.queue_mib),
        texts=limits.max_texts,
        file_mib=math.ceil(limits.max_body_mib),
        kept_mib=math.ceil(limits.cache_mib),
    )


def _server(engine: Engine) -> Server[Any]:
    from regionlm.tools.mcp_server import make_server

    limits = engine.limits
    return make_server(
        lambda: engine.blocking,
        Workspace(None, bounds(limits), engine.view, engine.segmenter),
        model=engine.model,
        # More calls than the engine takes, so that it is the engine that refuses.
        at_once=limits.max_queue + limits.max_batch,
        is_fault=is_our_fault,
    )


class _Face:
    """The transport, made anew whenever the app starts: the SDK's runs only once."""

    def __init__(self, server: Server[Any], limits: Limits) -> None:
        self._server, self._limits = server, limits
        self._app: ASGIApp | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        from mcp.server.transport_security import TransportSecuritySettings

        app = self._server.streamable_http_app(
            streamable_http_path=PATH,
            json_response=True,
            stateless_http=True,  # any process can answer, but only its own know the ids of images
            max_request_body_size=int(self._limits.max_body_mib * 2**20),
            transport_security=TransportSecuritySettings(enable_dns_rebinding_protection=False),
        )
        async with app.router.lifespan_context(app):
            self._app = app
            yield

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._app is None:
            raise RuntimeError("the app's lifespan has not begun")
        await self._app(scope, receive, send)
