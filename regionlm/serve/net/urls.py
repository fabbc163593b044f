"""Addresses of images, and the hosts that may be asked for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from regionlm.errors import InputError

PORTS = {"http": 80, "https": 443}
_LONGEST = 8000  # characters; servers take no longer ones


def is_address(text: str) -> bool:
    """Whether an image is given by its address, rather than by its bytes."""
    return text[:8].lower().startswith(("http://", "https://"))


class UrlError(InputError):
    """An address from which no image is fetched, or none could be."""


@dataclass(frozen=True)
class Url:
    """An address, taken apart once: what is checked is what is connected to.

    host: lower case, ASCII, without a dot at its end or brackets.
    target: path and query, as the request line has them.
    """

    scheme: str
    host: str
    port: int
    target: str

    @property
    def authority(self) -> str:
        """What the Host header says."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == PORTS[self.scheme] else f"{host}:{self.port}"

    @property
    def is_default_port(self) -> bool:
        """Whether the port is the scheme's own."""
        return self.port == PORTS[self.scheme]


def read_url(text: str) -> Url:
    """Take an address apart.

    Raises:
        UrlError: not http or https, a user name in it, too long, characters that have to be written
            with %.
    """
    if len(text) > _LONGEST:
        raise UrlError(f"url: expected at most {_LONGEST} characters, found {len(text)}")
    if not all("!" <= one <= "~" and one != "\\" for one in text):
        raise UrlError("url: write spaces and characters other than ASCII with %, as browsers do")
    try:
        parts = urlsplit(text)
        host, port = (parts.hostname or "").removesuffix("."), parts.port
    except ValueError as error:
        raise UrlError("url: expected https://host/path") from error
    if parts.scheme not in PORTS or not host:
        raise UrlError(f"url: expected https://host/path or http://host/path; found {text[:60]!r}")
    if "@" in parts.netloc:
        raise UrlError("url: found a user name in it; leave it out")
    target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    chosen = PORTS[parts.scheme] if port is None else port
    return Url(parts.scheme, host, chosen, target)


class AllowedHosts:
    """The hosts from which images may be fetched.

    Args:
        names: "host", for the usual ports of http and https, or "host:port".

    Raises:
        UrlError: what is no host's name.
    """

    def __init__(self, names: Sequence[str]) -> None:
        self._known = {_host_and_port(name) for name in names}

    def __bool__(self) -> bool:
        return bool(self._known)

    def check(self, url: Url) -> None:
        """Raise UrlError unless the address is of an allowed host and port."""
        named = (url.host, None) in self._known and url.is_default_port
        if not named and (url.host, url.port) not in self._known:
            raise UrlError(
                f"url: this service fetches nothing from {url.authority[:100]}; send the image"
                " itself, as a data: URI"
            )


def _host_and_port(name: str) -> tuple[str, int | None]:
    problem = f"allow_url_hosts: expected a host such as images.example.org; found {name!r}"
    try:
        parts = urlsplit(f"//{name}")
        host, port = (parts.hostname or "").encode("idna").decode(), parts.port
    except ValueError as error:  # UnicodeError is one
        raise UrlError(problem) from error
    if not host or parts.path or parts.query or parts.fragment or "@" in name or "*" in name:
        raise UrlError(problem)
    return host.removesuffix("."), port
