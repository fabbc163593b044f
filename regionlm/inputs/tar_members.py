"""Members of tar files of any size, in the memory of a few thousand members."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import BinaryIO

_TOGETHER = 2000


def tar_members(path: Path) -> Iterator[tuple[tarfile.TarInfo, int]]:
    """Yield each member, and the position in bytes at which its contents begin.

    `tarfile` remembers all members that it has read, so the file is opened anew after some.

    Raises tarfile.TarError, OSError or EOFError: this is not an uncompressed tar file.
    """
    start: int | None = 0
    with path.open("rb") as stream:
        while start is not None:
            start = yield from _members_from(stream, start)


def member_at(path: Path, start: int) -> tarfile.TarInfo:
    """The member whose headers begin at a position in bytes; its own positions count from there.

    Raises tarfile.TarError, OSError or EOFError: there is none.
    """
    with path.open("rb") as stream, tarfile.open(fileobj=_Rest(stream, start), mode="r:") as tar:
        found = tar.next()
    if found is None:
        raise EOFError("the file ends there")
    return found


def _members_from(
    stream: BinaryIO, start: int
) -> Generator[tuple[tarfile.TarInfo, int], None, int | None]:
    """Yield some members from `start` on; return the position of the next one, or None."""
    with tarfile.open(fileobj=_Rest(stream, start), mode="r:") as tar:
        for number, member in enumerate(tar):
            if number == _TOGETHER:
                return start + member.offset
            yield member, start + member.offset_data
    return None


class _Rest(io.BufferedIOBase):
    """The rest of a file from a position on, as a file."""

    def __init__(self, stream: BinaryIO, start: int) -> None:
        self._stream, self._start = stream, start
        stream.seek(start)

    def read(self, size: int | None = -1) -> bytes:
        return self._stream.read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        shift = self._start if whence == io.SEEK_SET else 0
        return self._stream.seek(shift + offset, whence) - self._start

    def tell(self) -> int:
        return self._stream.tell() - self._start
