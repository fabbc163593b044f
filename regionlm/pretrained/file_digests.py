"""Digests of files and folders, by which runs recognise changed inputs."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from regionlm.files import reading

_SHOWN = 16  # hexadecimal digits


def file_digest(path: Path) -> str:
    """SHA-256 of a file, which is read again only if its size or time has changed.

    Raises:
        InputError: it can't be read.
    """
    with reading(path):
        status = path.stat()
        return _digest(path.resolve(), status.st_size, status.st_mtime_ns)


def files_digest(paths: Iterable[Path], above: Path | None = None) -> str:
    """Short digest of several files and their names, independent of their order.

    Args:
        paths: files.
        above: folder that names are relative to; None uses the bare file names.

    Raises:
        InputError: one can't be read.
    """
    names = [(str(p.relative_to(above)) if above else p.name, file_digest(p)) for p in paths]
    text = "".join(f"{digest} {name}\n" for name, digest in sorted(names))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_SHOWN]


def folder_digest(folder: Path) -> str:
    """Short digest of all files in a folder and below, except Markdown and hidden files.

    Raises:
        InputError: one can't be read.
    """
    found = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".md"]
    return files_digest((p for p in found if not _hidden(p.relative_to(folder))), folder)


def _hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


@lru_cache(maxsize=256)
def _digest(path: Path, size: int, time: int) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while block := stream.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
