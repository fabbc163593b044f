"""Output folders of evaluations, captions and trainings: their settings, and one run at a time."""

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
LOCK = ".running.part"  # whoever looks at such a folder passes over these endings
_NAMED = 3


def open_folder(folder: Path, settings: Mapping[str, Any], is_own: Callable[[str], bool]) -> None:
    """Begin a run in a folder, or go on with the one of the same settings that it holds.

    All processes of a run may do so at once.

    Args:
        folder: made if missing.
        settings: JSON values that decide the run's results; paths count as text.
        is_own: whether a file of this name may be there before the settings are.

    Raises:
        InputError: the folder holds a run of other settings, or something that is no run, or can't
            be written.
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
        # Read even if just written: another process may have put its own there in between.
        written = path.read_bytes()
    with refusing(InputError, f"{path}: expected JSON; delete it", ValueError):
        before = json.loads(written.decode("utf-8"))
    check_same(folder, before, json.loads(text))


@contextmanager
def held(folder: Path) -> Iterator[None]:
    """Keep other runs, of any machine that sees the folder, from it while this one works there.

    The system lets go of it whenever the process ends. Where the file system knows no locks, or
    the system none, nothing is kept from anything.

    Raises:
        InputError: another run has it (says which), or the folder can't be written.
    """
    if fcntl is None:
        yield
        return
    path = folder / LOCK
    with _locked(path) as stream:
        with suppress(OSError):  # a full disk; the name is only for messages
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
                f"output folder {path.parent}: another run is at work there"
                f" ({who or 'it has just begun'}); wait for its end, or give another --output"
            ) from error
        except OSError:  # no locks there
            return stream
        try:
            if os.path.samestat(os.fstat(stream.fileno()), path.stat()):
                return stream
        except FileNotFoundError:
            pass
        stream.close()  # whoever had it removed it meanwhile


def check_same(folder: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise InputError, which names the first differences, unless settings are the same.

    Args:
        folder: that holds a run of the settings `before`.
        before, now: JSON values.
    """
    old, new = _flat(before), _flat(now)
    changed = [key for key in sorted({*old, *new}) if old.get(key) != new.get(key)]
    if changed:
        raise InputError(
            f"output folder {folder}: holds a run with other settings ("
            + "; ".join(f"{key} was {old.get(key)}, is {new.get(key)}" for key in changed[:_NAMED])
            + "); give another --output, or delete it to start anew"
        )


def _flat(values: Mapping[str, Any], above: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            found |= _flat(value, f"{above}{key}.")
        else:
            found[above + key] = value
    return found
