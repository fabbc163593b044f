"""Bearer tokens: who may use the service."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Collection, Mapping
from pathlib import Path

from regionlm.errors import InputError
from regionlm.serve.errors import error_body
from regionlm.serve.net.replies import App, Receive, Scope, Send, send_error

VARIABLE = "REGIONLM_TOKENS"
OPEN_PATHS = ("/health", "/ready")
"""What anyone may ask: load balancers have no token."""


def read_tokens(file: str | Path | None, environment: Mapping[str, str]) -> list[str]:
    """The tokens of a file and of the environment; none if there is neither.

    file: a token a line; blank lines and those that begin with # are left out.
    environment: may have REGIONLM_TOKENS, with spaces, lines or commas between tokens.

    Raises:
        InputError: a file that can't be read, a token with other characters than visible ASCII,
            or a file or variable without a token, which would leave the service open to anyone.
    """
    found: list[str] = []
    if file is not None:
        try:
            lines = Path(file).read_text(encoding="utf-8").splitlines()
        except (OSError, ValueError) as error:
            raise InputError(f"tokens: {file} cannot be read; check the path") from error
        written = [line.strip() for line in lines]
        found += _checked([one for one in written if one and one[0] != "#"], f"tokens: {file}")
    if VARIABLE in environment:
        found += _checked(environment[VARIABLE].replace(",", " ").split(), VARIABLE)
    return found


def _checked(tokens: list[str], place: str) -> list[str]:
    if not tokens:
        raise InputError(f"{place}: expected at least one token, found none; add one, or leave out")
    for position, token in enumerate(tokens, 1):
        if not all("!" <= one <= "~" for one in token):
            raise InputError(
                f"{place}: token {position} has spaces or characters other than ASCII; write"
                " letters and digits"
            )
    return tokens


class BearerTokens:
    """ASGI middleware: 401 for requests without a token, but for those of some paths.

    Args:
        tokens: compared in a time that doesn't depend on how much of one is right.
        open_paths: what needs no token, whole paths.
    """

    def __init__(
        self, app: App, *, tokens: Collection[str], open_paths: Collection[str] = OPEN_PATHS
    ) -> None:
        self.app, self.open_paths = app, frozenset(open_paths)
        self._digests = [_digest(token.encode()) for token in tokens]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on, or refuse it."""
        if scope["type"] == "lifespan" or scope["path"] in self.open_paths or self._knows(scope):
            await self.app(scope, receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
        else:
            message = "a token is needed: send the header Authorization: Bearer TOKEN"
            error = error_body(message, "invalid_request_error", None, "invalid_api_key")
            await send_error(send, 401, error, [(b"www-authenticate", b"Bearer")])

    def _knows(self, scope: Scope) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        if len(given) != 1:
            return False
        kind, _, token = given[0].partition(b" ")
        digest = _digest(token.strip())
        # Of equal length, and all of them compared, so that time says nothing.
        same = [hmac.compare_digest(digest, one) for one in self._digests]
        return kind.lower() == b"bearer" and any(same)


def _digest(token: bytes) -> bytes:
    return hashlib.sha256(token).digest()
