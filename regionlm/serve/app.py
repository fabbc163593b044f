"""The HTTP service: one app, its faces, and what it says of errors."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prefix_models.errors import UserError
from regionlm.errors import ModelError, NoCaptionsError
from regionlm.extras import extra
from regionlm.serve.errors import ServiceError, error_body
from regionlm.serve.gate import Gate, Running, error_response
from regionlm.serve.native import native_router
from regionlm.serve.settings import Settings

with extra("serve"):
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi.responses import JSONResponse
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine

_log = logging.getLogger(__name__)


def create_app(engine: Engine, settings: Settings | None = None) -> FastAPI:
    """The service in front of an engine. Whoever made the engine closes it.

    Routers get the engine and the settings; in a request they are ``request.app.state.engine`` and
    ``request.app.state.settings``. A route raises `ServiceError` or a `UserError`; all errors are
    sent in OpenAI's form.
    """
    app = FastAPI(title="regionlm", description="Say what is in a region of an image.")
    app.state.engine, app.state.settings = engine, settings or Settings()
    app.state.running = Running()
    app.add_middleware(Gate, engine=engine, running=app.state.running)
    _add_error_handlers(app)
    app.include_router(native_router(engine))

    @app.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "ok"}

    return app


def _add_error_handlers(app: FastAPI) -> None:
    @app.exception_handler(ServiceError)
    async def service_error(request: Request, error: ServiceError) -> JSONResponse:
        return error_response(error)

    @app.exception_handler(UserError)
    async def user_error(request: Request, error: UserError) -> JSONResponse:
        if isinstance(error, ModelError) and not isinstance(error, NoCaptionsError):
            return await any_error(request, error)
        return JSONResponse(error_body(str(error), "invalid_request_error", None, None), 422)

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

    @app.exception_handler(Exception)
    async def any_error(request: Request, error: Exception) -> JSONResponse:
        if isinstance(error, ClientDisconnect):  # nobody reads the reply
            return JSONResponse({}, 499)
        _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        message = "the service failed to answer this; its log says why"
        return JSONResponse(error_body(message, "server_error", None, None), 500)
