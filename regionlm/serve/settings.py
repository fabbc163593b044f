"""How the service is reached. Nothing heavy may be imported here."""

from __future__ import annotations

from dataclasses import dataclass, field
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
        devices: A process for each of these devices (cuda:0 cuda:1 ...), or a number of processes:
            one for each CUDA device from 0, or all on the CPU. One that dies is started again.
        tokens: File of bearer tokens, one a line, of which clients need one; also taken from the
            variable REGIONLM_TOKENS. Without any, everybody may ask.
        allow_url_hosts: Hosts, or host:port, from which images may be fetched by their addresses;
            none by default.
        cors_origins: Origins of web pages that may use the service, such as https://example.org;
            none by default.
        dam_stream: Stream chat completions as Describe Anything's own server does, for its clients;
            all others need it off.
        sam: Folder or hub id of a SAM or SAM 2 (facebook/sam-vit-base) that finds the regions of
            points; null grows them by colour.
        log: File for a JSON line for each request; null takes standard error.
        warmup: Ask the model some questions before the port is opened, so that the first client
            does not wait for what happens only once.

    Raises:
        InputError: a setting out of range.
    """

    error: ClassVar[type[InputError]] = InputError

    host: Host = "127.0.0.1"
    port: Port = 8000
    warmup: bool = False
    devices: list[str] = field(default_factory=list)
    tokens: str | None = None
    allow_url_hosts: list[str] = field(default_factory=list)
    cors_origins: list[str] = field(default_factory=list)
    dam_stream: bool = False
    sam: str | None = None
    log: str | None = None
