"""The HTTP service: one app, its faces, and what it says of errors."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from prefix_models.errors import UserError
from regionlm.extras import extra
from regionlm.serve.connections import Connections
from regionlm.serve.documentation import document
from regionlm.serve.errors import ServiceError, error_body, is_our_fault, service_error
from regionlm.serve.gate import Gate, Running, error_response
from regionlm.serve.mcp_face import mount_mcp
from regionlm.serve.metrics import Metrics, NewMetrics
from regionlm.serve.native import native_router
from regionlm.serve.net.fetching import UrlFetcher
from regionlm.serve.net.guards import add_guards
from regionlm.serve.net.log_lines import LogLines
from regionlm.serve.net.pages import is_loopback
from regionlm.serve.net.tokens import OPEN_PATHS, read_tokens
from regionlm.serve.openai.routes import openai_router
from regionlm.serve.operations import operations_router
from regionlm.serve.page.router import PAGE_PATHS, page_router
from regionlm.serve.segment import segment_router
from regionlm.serve.settings import Settings

with extra("serve"):
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from fastapi_offline import FastAPIOffline
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine


def create_app(
    engine: Engine,
    settings: Settings | None = None,
    *,
    log: LogLines | None = None,
    metrics: NewMetrics | None = None,
) -> FastAPI:
    """The service in front of an engine. Whoever made the engine closes it.

    Routers get the engine and the settings; in a request they are ``request.app.state.engine`` and
    ``request.app.state.settings``; ``request.app.state.fetcher`` fetches images by their addresses.
    A route raises `ServiceError` or a `UserError`; all errors are sent in OpenAI's form. What no
    route expected becomes 500 in `regionlm.serve.net.requests`.

    Args:
        engine: that answers.
        settings: how the service is reached.
        log: gets a line for each request.
        metrics: makes what counts requests and answers /metrics, as ``app.state.metrics``.

    Raises:
        InputError: tokens that can't be read, or no hosts or origins.
    """
    settings = settings or Settings()
    app = FastAPIOffline(
        title="regionlm",
        description="Say what is in a region of an image, in words or as a vector.",
        redoc_url=None,
    )
    app.state.engine, app.state.settings = engine, settings
    app.state.fetcher = UrlFetcher(
        settings.allow_url_hosts, most_bytes=int(engine.limits.max_body_mib * 2**20)
    )
    app.state.connections = Connections(engine.limits.client_timeout)
    app.state.running = Running(app.state.connections)
    app.state.metrics = (metrics or Metrics)(engine)
    app.add_middleware(Gate, engine=engine, running=app.state.running)
    _add_error_handlers(app)
    app.include_router(native_router(engine))
    app.include_router(openai_router(engine, dam_stream=settings.dam_stream))
    app.include_router(operations_router(engine, app.state.metrics))
    app.include_router(segment_router(engine))
    app.include_router(page_router())
    document(app)
    tokens = read_tokens(settings.tokens, os.environ)
    mount_mcp(app, engine)
    add_guards(
        app,
        tokens=tokens,
        open_paths=(*OPEN_PATHS, *PAGE_PATHS),
        origins=settings.cors_origins,
        is_local=is_loopback(settings.host),
        log=log,
        count=app.state.metrics.count,
    )
    return app


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    @app.exception_handler(UserError)
    async def known_error(request: Request, error: Exception) -> JSONResponse:
        if is_our_fault(error):
            raise error
        return error_response(service_error(error))

    @app.exception_handler(RequestValidationError)
    async def validation_error(request: Request, error: RequestValidationError) -> JSONResponse:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"]))
        message = f"{place}: {first['msg']}"
        return JSONResponse(error_body(message, "invalid_request_error", place, None), 422)

    @app.exception_handler(HTTPException)
    async def http_error(request: Request, error: HTTPException) -> JSONResponse:
        body = error_body(str(error.detail), "invalid_request_error", None, None)
        return JSONResponse(body, error.status_code, dict(error.headers or {}))

    @app.exception_handler(ClientDisconnect)
    async def client_gone(request: Request, error: ClientDisconnect) -> JSONResponse:
        return JSONResponse({}, 499)  # nobody reads it
