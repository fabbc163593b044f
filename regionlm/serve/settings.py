"""How the service is reached. Nothing heavy may be imported here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from prefix_models.checks import Checked, Described, Range
from regionlm.errors import InputError

Host = Annotated[str, Described("a host name or address", fits=str.strip)]
Port = Annotated[int, Range(0, 65535)]


@dataclass(frozen=True, kw_only=True)
class Settings(Checked):
    """how the service is reached.

    Args:
        host: Address to listen on; 0.0.0.0 is every one of this machine.
        port: Port to listen on; 0 takes a free one and says which.

    Raises:
        InputError: a setting out of range.
    """

    error: ClassVar[type[InputError]] = InputError

    host: Host = "127.0.0.1"
    port: Port = 8000
