"""Output folders of evaluations, captions and trainings, which hold one run each."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path
from typing import Any

from prefix_models.errors import refusing
from regionlm.errors import InputError
from regionlm.files import write_text, writing

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

SETTINGS = "run.json"
LOCK = ".running.part"  # files of this ending are ignored wherever such a folder is read
_NAMED = 3


def open_folder(folder: Path, settings: Mapping[str, Any], is_own: Callable[[str], bool]) -> None:
    """Begin a run in a folder, or resume the one with the same settings that it holds.

    All processes of a run may do so at the same time.

    Args:
        folder: created if missing.
        settings: JSON values that the results depend on, with paths as text.
        is_own: whether a file of this name may exist before the settings are written.

    Raises:
        InputError: the folder holds a run with other settings, or other files, or is not writable.
    """
    text = json.dumps(settings, indent=2, sort_keys=True, default=str)
    path = folder / SETTINGS
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        others = [entry.name for entry in folder.iterdir() if not is_own(entry.name)]
        if others and not path.exists():
            raise InputError(
                f"output folder {folder}: expected an empty one or an earlier run's, found"
                f" other files such as {others[0]}; give another --output"
            )
        if not path.exists():
            write_text(path, text)
        # Read it even if just written: another process may have replaced it in the meantime.
        written = path.read_bytes()
    with refusing(InputError, f"{path}: expected JSON; delete it", ValueError):
        before = json.loads(written.decode("utf-8"))
    check_same(folder, before, json.loads(text))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Lock a folder while a run works in it, against other runs on any machine that sees it.

    The system releases the lock when the process ends, however it ends. On systems and file
    systems without locks this does nothing.

    Raises:
        InputError: another run holds the lock (the message says which), or the folder is not
            writable.
    """
    if fcntl is None:
        yield
        return
    path = folder / LOCK
    with _locked(path) as stream:
        with suppress(OSError):  # a full disk; the name only serves messages
            stream.truncate(0)
            stream.write(f"process {os.getpid()} on {platform.node()}".encode())
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> FileIO:
    while True:
        with writing(path.parent):
            stream = path.open("ab+", buffering=0)
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            with stream:
                stream.seek(0)
                who = stream.read().decode("utf-8", "replace")
            raise InputError(
                f"output folder {path.parent}: another run is using it"
                f" ({who or 'it has just begun'}); wait until it ends, or give another --output"
            ) from error
        except OSError:  # a file system without locks
            return stream
        try:
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        except FileNotFoundError:
            pass
        stream.close()  # its last owner has removed the file meanwhile


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError, with the first differences, unless two runs have the same settings.

    Args:
        folder: that holds a run with the settings `before`.
        before, now: JSON values.
    """
    old, new = _flat(before), _flat(now)
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if changed:
        raise InputError(
            f"output folder {folder}: holds a run with other settings ("
            + "; ".join(f"{key} was {old.get(key)}, is {new.get(key)}" for key in changed[:_NAMED])
            + "); give another --output, or delete the folder to start anew"
        )


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{above}{key}.")
        else:
            found[above + key] = value
    return found
