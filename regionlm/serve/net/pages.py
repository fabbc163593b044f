"""Keeps pages of other sites away: by the names they come under, and the bodies they may send."""

from __future__ import annotations

from collections.abc import Collection
from ipaddress import ip_address
from urllib.parse import urlsplit

from regionlm.serve.errors import ServiceError
from regionlm.serve.net.replies import App, Receive, Scope, Send, send_error


class WrongHostError(ServiceError):
    """A request for another host than this machine."""

    status, type, code = 421, "invalid_request_error", "wrong_host"


class WrongOriginError(ServiceError):
    """A request of a page that may not use the service."""

    status, type, code = 403, "invalid_request_error", "wrong_origin"


class WrongBodyError(ServiceError):
    """A body of a kind that is not read."""

    status, type, code = 415, "invalid_request_error", "wrong_body"


def is_loopback(host: str | None) -> bool:
    """Whether a name or address is this machine's own: localhost, 127.0.0.0/8 or ::1."""
    name = (host or "").strip().lower().removeprefix("[").removesuffix("]")
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name.removesuffix(".") == "localhost"


class LoopbackOnly:
    """ASGI middleware: what comes over loopback must ask for this machine, and if a page asks, be
    of it or of a known origin. Else 421 and 403.

    A page in a browser of this machine could otherwise reach a service that nobody else can, under
    a name of its own that it lets point here (DNS rebinding). What comes from elsewhere, as to the
    replicas of a cluster, is not looked at.

    Args:
        origins: of the pages that may ask.
        open_paths: what anyone may ask, whole paths.
    """

    def __init__(self, app: App, *, origins: Collection[str], open_paths: Collection[str]) -> None:
        self.app, self.origins, self.open_paths = app, frozenset(origins), frozenset(open_paths)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        problem = None
        if scope["type"] == "http" and scope["path"] not in self.open_paths:
            problem = self._problem(scope)
        if problem is None:
            await self.app(scope, receive, send)
        else:
            await send_error(send, problem.status, problem.to_dict())

    def _problem(self, scope: Scope) -> ServiceError | None:
        if not is_loopback((scope.get("server") or [None])[0]):
            return None
        if not all(is_loopback(_name(f"//{host}")) for host in _headers(scope, b"host")):
            return WrongHostError(
                "this service listens on this machine alone: ask for localhost or 127.0.0.1; behind"
                " a proxy that passes on another name, start it with --tokens"
            )
        for origin in _headers(scope, b"origin"):
            if origin not in self.origins and not is_loopback(_name(origin)):
                return WrongOriginError(
                    f"pages of {origin[:100]} may not use this service; start it with"
                    " --cors_origins to let them"
                )
        return None


class JsonOrForms:
    """ASGI middleware: 415 for bodies other than JSON and multipart.

    Browsers let pages of any site send text/plain, or nothing, as the kind of a body, and ask the
    service first (by CORS) where it is JSON.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] != "http" or scope["method"] != "POST":
            await self.app(scope, receive, send)
            return
        given = "".join(_headers(scope, b"content-type"))
        kind = given.partition(";")[0].strip().lower()
        if kind in ("application/json", "multipart/form-data"):
            await self.app(scope, receive, send)
            return
        error = WrongBodyError(
            f"expected Content-Type: application/json or multipart/form-data, found"
            f" {kind[:60] or 'none'}; with curl -d, add -H 'Content-Type: application/json'"
        )
        await send_error(send, error.status, error.to_dict())


def _headers(scope: Scope, name: bytes) -> list[str]:
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


def _name(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None
