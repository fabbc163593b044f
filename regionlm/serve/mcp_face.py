"""The tools for agents at /mcp: MCP over streamable HTTP, answered by the engine."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

from regionlm.extras import extra
from regionlm.serve.blocking import BlockingEngine
from regionlm.serve.errors import is_our_fault
from regionlm.serve.gate import MCP_PATH
from regionlm.serve.readers import in_turn, letting_others
from regionlm.tools import Workspace

with extra("serve"):
    from starlette.applications import Starlette
    from starlette.routing import Route
    from starlette.types import ASGIApp, Receive, Scope, Send

if TYPE_CHECKING:
    from mcp.server import Server

    from regionlm.inputs.views import ImageView
    from regionlm.serve.engine import Engine
    from regionlm.serve.limits import Limits
    from regionlm.tools.answers import Answer
    from regionlm.tools.mcp_server import Work


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
    face = _Face(tools_server(engine), engine.limits)
    app.router.routes.append(Route(MCP_PATH, endpoint=face, methods=["POST"]))
    before = app.router.lifespan_context

    @asynccontextmanager
    async def lifespan(app: Any) -> AsyncIterator[Any]:
        async with before(app) as state, face.running():
            yield state

    app.router.lifespan_context = lifespan


class EngineViews:
    """The views that an engine keeps, by ids of the tools: forgotten when it forgets them.

    Args:
        engine: whose cache bounds their memory.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._known: WeakValueDictionary[str, ImageView] = WeakValueDictionary()

    def open(self, data: bytes, name: str) -> ImageView:
        """A view of a file's bytes. Raises as `Engine.view`."""
        return self._engine.view(data, name)

    def get(self, name: str) -> ImageView | None:
        """The view of an id, if the engine still keeps it."""
        view = self._known.get(name)
        return view if view is not None and self._engine.views.use(view) else None

    def keep(self, name: str, view: ImageView) -> ImageView:
        """Know a view by an id; returns the one that the engine keeps under it already, if any."""
        earlier = self.get(name)
        if earlier is None:
            self._known[name] = view
        return earlier or view


def workspace(engine: Engine) -> Workspace:
    """Where tools get their pictures from: an engine keeps them, and its limits hold."""
    return Workspace(None, engine.limits.bounds, EngineViews(engine), engine.segmenter)


def tools_server(engine: Engine) -> Server[Any]:
    """The tools that an engine answers, for any transport; they read images as `off_loop` does."""
    import anyio

    from regionlm.tools.mcp_server import make_server

    limits = engine.limits
    # More calls than the engine takes, so that it is the engine that refuses.
    threads = anyio.CapacityLimiter(limits.max_queue + limits.max_batch)

    async def run(work: Work) -> Answer[Any]:
        deadline = time.monotonic() + limits.timeout
        asking = BlockingEngine(engine, waiting=letting_others, deadline=deadline)
        reading = partial(in_turn, partial(work, asking), deadline)
        return await anyio.to_thread.run_sync(reading, limiter=threads)

    return make_server(lambda: engine.model, workspace(engine), run=run, is_fault=is_our_fault)


class _Face:
    """The transport, made anew whenever the app starts: the SDK's runs only once."""

    def __init__(self, server: Server[Any], limits: Limits) -> None:
        self._server, self._limits = server, limits
        self._app: ASGIApp | None = None

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        from mcp.server.transport_security import TransportSecuritySettings

        app = self._server.streamable_http_app(
            streamable_http_path=MCP_PATH,
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
