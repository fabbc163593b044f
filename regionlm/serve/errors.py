"""What a service says in place of an answer. Nothing heavy may be imported here."""

from __future__ import annotations

import logging
from typing import Any, ClassVar

from prefix_models.errors import UserError
from regionlm.errors import ModelError, NoCaptionsError

_log = logging.getLogger(__name__)


class ServiceError(Exception):
    """A request that gets no answer; the message is one line that a client may read.

    ``status``: of HTTP; ``type``: OpenAI's word for the kind of error; ``code``: a word for
    programs.

    Args:
        message: one line.
        param: name of the part of the request that is meant, if it is one.
        retry_after: seconds after which to try again, if that may help.
    """

    status: ClassVar[int] = 500
    type: ClassVar[str] = "server_error"
    code: ClassVar[str | None] = None

    def __init__(
        self, message: str, *, param: str | None = None, retry_after: int | None = None
    ) -> None:
        super().__init__(message)
        self.param, self.retry_after = param, retry_after

    def to_dict(self) -> dict[str, Any]:
        """The body of the reply, in OpenAI's form."""
        return error_body(str(self), self.type, self.param, self.code)


class QueueFullError(ServiceError):
    """As many questions wait as may."""

    status, type, code = 429, "rate_limit_error", "queue_full"


class TooLateError(ServiceError):
    """The time that a request may take is over."""

    status, type, code = 504, "timeout_error", "timeout"

    def __init__(
        self, message: str = "no answer in time; ask for less, or try again later"
    ) -> None:
        super().__init__(message)


class ClosingError(ServiceError):
    """The service is stopping, and takes no new questions."""

    status, type, code = 503, "server_error", "closing"

    def __init__(
        self, message: str = "the service is stopping; ask another one, or try again later"
    ) -> None:
        super().__init__(message)


class MalformedError(ServiceError):
    """A request that can't be read: not JSON, or not multipart."""

    status, type, code = 400, "invalid_request_error", "malformed"


class TooLargeError(ServiceError):
    """A body beyond the limit."""

    status, type, code = 413, "invalid_request_error", "too_large"


class SlowClientError(ServiceError):
    """A body that takes too long to come."""

    status, type, code = 408, "invalid_request_error", "slow_client"


class UnusableError(ServiceError):
    """Values in a request that can't be used."""

    status, type, code = 422, "invalid_request_error", None


def error_body(message: str, kind: str, param: str | None, code: str | None) -> dict[str, Any]:
    """``{"error": {"message", "type", "param", "code"}}``, the message in one line."""
    line = _encodable(" ".join(message.split()))
    name = None if param is None else _encodable(param)
    return {"error": {"message": line, "type": kind, "param": name, "code": code}}


def _encodable(text: str) -> str:
    """JSON may hold halves of characters, which no reply can: question marks instead."""
    return text.encode("utf-8", "replace").decode()


def is_our_fault(error: Exception) -> bool:
    """Whether an error says nothing about the request, and its message nothing to the client."""
    if isinstance(error, UserError):
        return isinstance(error, ModelError) and not isinstance(error, NoCaptionsError)
    return not isinstance(error, ServiceError)


def service_error(error: Exception) -> ServiceError:
    """What a client may know of an error: all of what it caused itself, nothing of others."""
    if isinstance(error, ServiceError):
        return error
    if is_our_fault(error):
        return ServiceError("the service failed to answer this; its log says why")
    return UnusableError(str(error))


def logged_error(error: Exception, request_id: str) -> ServiceError:
    """As `service_error`; what the client is not told is logged."""
    if is_our_fault(error):
        _log.error("request %s failed", request_id, exc_info=error)
    return service_error(error)
