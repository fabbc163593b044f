"""The bytes of a picture that an agent names: a file in one folder, or a data: URI."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from regionlm.errors import InputError
from regionlm.inputs.encoded_files import file_bytes, is_data_uri
from regionlm.tools.bounds import MIB

_LONGEST_PATH = 4096
_SHOWN = 60
# O_PATH, where there is one: a folder need not be listed to open what is in it.
_FOLDER = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_PATH", os.O_RDONLY)


def read_source(given: str, root: Path | None, most_mib: float) -> bytes:
    """The bytes that a path or data: URI stands for.

    Args:
        given: the path, relative to `root` or below it; or the data: URI.
        root: the only folder of which files are read; None: no file is.
        most_mib: largest size, in MiB.

    Raises:
        InputError: anything else, a file elsewhere, or one that can't be read or is too large.
    """
    if is_data_uri(given):
        return _read_uri(given, most_mib)
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
            f"{shown(given)}: files are not read here, and no earlier image or mask is remembered"
            " by this id; give a data: URI, or ask for the image or mask again"
        )
    base = root.resolve()
    return _read_file(base, _inside(given, root, base), given, most_mib)


def shown(given: str) -> str:
    """What was given, short enough for a message and in one line."""
    short = given if len(given) <= _SHOWN else f"{given[:_SHOWN]}..."
    return repr(short)


def _inside(given: str, root: Path, base: Path) -> Path:
    """The path of a file, relative to the folder, to which no link and no .. leads.

    All that is refused is refused in the same words, whether it exists or not: an agent learns
    nothing of what is elsewhere.
    """
    outside = InputError(
        f"{shown(given)} is not a path in the folder that may be read: give one relative to it,"
        " without .. and without symbolic links"
    )
    if "\0" in given:
        raise outside
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
    return absolute.relative_to(base)


def _read_file(base: Path, path: Path, given: str, most_mib: float) -> bytes:
    try:
        descriptor = _open(base, path)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise InputError(f"{shown(given)} is not a file: give the path of one image")
        with open(descriptor, "rb") as file:
            data = file.read(int(most_mib * MIB) + 1)
        return _checked(data, shown(given), most_mib)
    except FileNotFoundError as error:
        raise InputError(
            f"{shown(given)}: no such file, and no earlier image or mask is remembered by this id;"
            " give a path relative to the folder that may be read, a data: URI, or the id of a"
            " recent answer"
        ) from error
    except OSError as error:
        raise InputError(f"{shown(given)} cannot be read: {error.strerror}") from error


def _open(base: Path, path: Path) -> int:
    """A descriptor of what a path relative to a folder leads to, through no link.

    Whoever may write in the folder can put a link in the place of what was checked before, so that
    it is checked again while it is opened.
    """
    # Not to wait for the other end of a pipe.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    if os.open not in os.supports_dir_fd:
        return _open_and_check(base / path, flags)
    flags |= os.O_NOFOLLOW
    folder = os.open(base, _FOLDER)
    try:
        for name in path.parts[:-1]:
            below = os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
            os.close(folder)
            folder = below
        return os.open(path.name or ".", flags, dir_fd=folder)
    finally:
        os.close(folder)


def _open_and_check(path: Path, flags: int) -> int:
    """As `_open`, where a system (Windows) has no descriptors of folders."""
    descriptor = os.open(path, flags)
    try:
        found, there = os.fstat(descriptor), os.stat(path, follow_symlinks=False)
        if path.resolve() != path or not os.path.samestat(found, there):
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _read_uri(uri: str, most_mib: float) -> bytes:
    if len(uri) > 2 * most_mib * MIB:  # it need not be decoded to know
        raise _too_large("data: URI", most_mib)
    return _checked(file_bytes(uri, shown(uri)), "data: URI", most_mib)


def _checked(data: bytes, name: str, most_mib: float) -> bytes:
    if not data:
        raise InputError(f"{name} is empty (0 bytes)")
    if len(data) > most_mib * MIB:
        raise _too_large(name, most_mib)
    return data


def _too_large(name: str, most_mib: float) -> InputError:
    return InputError(f"{name} is too large: expected at most {most_mib:g} MiB; scale it down")
