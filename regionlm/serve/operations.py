"""What those who run the service ask it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from regionlm.extras import extra
from regionlm.serve.asked import request_id
from regionlm.serve.errors import ServiceError, logged_error
from regionlm.serve.gate import error_response
from regionlm.serve.readiness import Readiness

with extra("serve"):
    from fastapi import APIRouter, Request
    from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine
    from regionlm.serve.metrics import Metrics


class NotReadyError(ServiceError):
    """The model does not answer."""

    status, type, code = 503, "server_error", "not_ready"


def operations_router(engine: Engine, metrics: Metrics) -> APIRouter:
    """/health, /ready and /metrics."""
    router, readiness = APIRouter(tags=["operations"]), Readiness(engine)

    @router.head("/health", include_in_schema=False)  # load balancers ask so
    @router.get("/health")
    async def health() -> dict[str, str]:
        """Whether the process is alive."""
        return {"status": "ok"}

    @router.head("/ready", include_in_schema=False)
    @router.get("/ready", responses={503: {"description": "Not ready; the message says why."}})
    async def ready(request: Request) -> Response:
        """Whether the model is loaded, has answered a question of our own, and takes others."""
        try:
            await readiness.check()
        except Exception as error:
            why = logged_error(error, request_id(request))
            return error_response(NotReadyError(str(why), retry_after=why.retry_after))
        return JSONResponse({"status": "ready", "model": engine.name})

    @router.get("/metrics", response_class=Response)
    async def figures() -> Response:
        """Figures for Prometheus."""
        return Response(metrics.text(), media_type="text/plain; version=0.0.4")

    return router
