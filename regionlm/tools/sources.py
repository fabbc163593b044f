"""The bytes of a picture that an agent names: a file in one folder, or a data: URI."""

from __future__ import annotations

import base64
import binascii
import os
import stat
from pathlib import Path
from urllib.parse import unquote_to_bytes

from regionlm.errors import InputError
from regionlm.tools.bounds import MIB

_LONGEST_PATH = 4096
_SHOWN = 60


def read_source(given: str, root: Path | None, most_mib: int) -> bytes:
    """The bytes that a path or data: URI stands for.

    Args:
        given: the path, relative to `root` or below it; or the data: URI.
        root: the only folder of which files are read; None: no file is.
        most_mib: largest size, in MiB.

    Raises:
        InputError: anything else, a file elsewhere, or one that can't be read or is too large.
    """
    if given[:5].lower() == "data:":
        return _checked(_decode_uri(given, most_mib), "data: URI", most_mib)
    if "://" in given:
        raise InputError(
            f"{shown(given)} is an address, and none is fetched: download the file and give its"
            " path or a data: URI"
        )
    if len(given) > _LONGEST_PATH:
        raise InputError(
            f"{shown(given)} is too long for a path: if it is base64, put data:image/png;base64,"
            " before it"
        )
    if root is None:
        raise InputError(
            f"{shown(given)}: files are not read here, and no earlier image has this id; give a"
            " data: URI"
        )
    return _read_file(_inside(given, root), given, most_mib)


def shown(given: str) -> str:
    """What was given, short enough for a message and in one line."""
    short = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}..."
    return repr(short)


def _inside(given: str, root: Path) -> Path:
    """The path of a file in the folder, which no link and no .. leads to.

    All that is refused is refused in the same words, whether it exists or not: an agent learns
    nothing of what is elsewhere.
    """
    outside = InputError(
        f"{shown(given)} is not a path in the folder that may be read: give one relative to it,"
        " without .. and without symbolic links"
    )
    if "\0" in given:
        raise outside
    base = root.resolve()
    # A path below the folder as the user wrote it (say, with a link on the way to it) is fine.
    absolute = Path(given) if Path(given).is_absolute() else base / given
    if absolute.is_relative_to(root.absolute()):
        absolute = base / absolute.relative_to(root.absolute())
    try:
        resolved = absolute.resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name no file has
        raise outside from error
    # A path with a link or a .. in it is not the one that it resolves to.
    if resolved != absolute or not absolute.is_relative_to(base):
        raise outside
    return absolute


def _read_file(path: Path, given: str, most_mib: int) -> bytes:
    try:
        # Not to wait for the other end of a pipe; and what has become a link since is refused.
        flags = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(path, os.O_RDONLY | flags | getattr(os, "O_BINARY", 0))
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(f"{shown(given)} is not a file: give the path of one image")
        with open(descriptor, "rb") as file:
            return _checked(file.read(most_mib * MIB + 1), shown(given), most_mib)
    except FileNotFoundError as error:
        raise InputError(
            f"{shown(given)}: no such file, and no earlier image has this id; give a path relative"
            " to the folder that may be read, a data: URI, or the id of a recent answer"
        ) from error
    except OSError as error:
        raise InputError(f"{shown(given)} cannot be read: {error.strerror}") from error


def _decode_uri(uri: str, most_mib: int) -> bytes:
    head, comma, body = uri.partition(",")
    if not comma:
        raise InputError(f"{shown(uri)}: expected data:image/png;base64, and then the base64")
    if len(body) > 2 * most_mib * MIB:
        raise _too_large("data: URI", most_mib)
    if not head.lower().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        return base64.b64decode("".join(body.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{shown(uri)}: the base64 is damaged or incomplete ({error})") from error


def _checked(data: bytes, name: str, most_mib: int) -> bytes:
    if not data:
        raise InputError(f"{name} is empty (0 bytes)")
    if len(data) > most_mib * MIB:
        raise _too_large(name, most_mib)
    return data


def _too_large(name: str, most_mib: int) -> InputError:
    return InputError(f"{name} is too large: expected at most {most_mib} MiB; scale it down")
