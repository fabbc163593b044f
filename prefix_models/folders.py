"""Folders whose config.json names their format and version: prefix models and bundles.

A folder is written completely or not at all, and replaced only by one of the same kind.
"""

import json
import os
import platform
import re
import shutil
import stat
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from prefix_models.errors import PrefixModelError, UserError, refusing, within

CONFIG = "config.json"
MACHINE = re.sub(r"\W", "-", platform.node())
"""This machine's name, used in the names of unfinished folders."""
_FILLING: set[Path] = set()  # unfinished folders of this process


@dataclass(frozen=True)
class FolderKind:
    """One kind of folder.

    Args:
        noun: what messages call it.
        format: value of `format` in its config.json.
        version: value of `format_version`.
        error: raised, with a message of one line, if a folder can't be used.
    """

    noun: str
    format: str
    version: int
    error: type[UserError]

    def is_kind_of(self, folder: Path) -> bool:
        """Whether a folder's config.json has this format, of any version."""
        try:
            config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return False
        return isinstance(config, dict) and config.get("format") == self.format

    def read_config(self, folder: Path) -> dict[str, Any]:
        """Read a folder's config.json; raise `error` unless it has this format and version."""
        path = folder / CONFIG
        if not folder.is_dir():
            raise self.error(f"no such folder: {folder}")
        if not path.is_file():
            raise self.error(
                f"missing file: {path.absolute()}; expected the folder of a {self.noun}"
            )
        with refusing(self.error, f"{path} is not valid JSON", ValueError):
            config = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(config, dict) or config.get("format") != self.format:
            raise self.error(f"{path} does not describe a {self.noun} (format {self.format!r})")
        if config.get("format_version") != self.version:
            raise self.error(
                f"{path} has format version {config.get('format_version')!r}, this version of "
                f"regionlm reads {self.version}; update regionlm"
            )
        return config

    def write_config(self, folder: Path, values: Mapping[str, Any]) -> None:
        """Write config.json: format, version and `values` (JSON)."""
        config = {"format": self.format, "format_version": self.version, **values}
        (folder / CONFIG).write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")

    @contextmanager
    def replacing(
        self, folder: Path, read_back: Callable[[Path], None] | None = None
    ) -> Iterator[Path]:
        """Yield a temporary folder to fill, then move it to `folder`, in place of an older one.

        If filling fails, the temporary folder is removed and the older one is kept. Leftovers of
        killed processes of this machine are removed. Raises `error` if `folder` holds anything of
        another kind, or can't be written.

        Args:
            folder: the final place.
            read_back: called with the filled temporary folder; should raise `error` if it does not
                hold what was to be written.
        """
        folder = folder.resolve()
        self._check_replaceable(folder)
        # Next to the target, and so on the same file system, which makes the final rename atomic.
        name = f".{folder.name}.{MACHINE}.{os.getpid()}.{uuid.uuid4().hex}"
        staging = folder.with_name(name)
        _FILLING.add(staging)
        try:
            _remove_leftovers(folder)
            staging.mkdir(parents=True)
            yield staging
            if read_back is not None:
                self._check(staging, folder, read_back)
            _open_to_others(staging)
            _move_into_place(staging, folder)
        except Exception as error:
            if isinstance(error, self.error | PrefixModelError) and str(staging) in str(error):
                raise type(error)(str(error).replace(str(staging), str(folder))) from error
            # For a full disk, safetensors raises no OSError, and tokenizers a bare Exception.
            if not isinstance(error, OSError | SafetensorError) and type(error) is not Exception:
                raise
            reason = " ".join(str(error).split())
            raise self.error(f"cannot write {folder}: {reason}") from error
        finally:
            shutil.rmtree(staging, ignore_errors=True)
            _FILLING.discard(staging)

    def _check(self, staging: Path, folder: Path, read_back: Callable[[Path], None]) -> None:
        with within(f"{folder} is left as it was, because what was written could not be read back"):
            read_back(staging)

    def _check_replaceable(self, folder: Path) -> None:
        if not folder.exists():
            return
        if not folder.is_dir():
            raise self.error(f"{folder} is a file; give a folder")
        if not self.is_kind_of(folder) and any(folder.iterdir()):
            raise self.error(
                f"{folder} holds something other than a {self.noun} (it has no {self.noun}'s "
                f"{CONFIG}); give a new or empty folder"
            )


def _open_to_others(folder: Path) -> None:
    """Give all files the default mode; safetensors makes its files private, whatever the umask."""
    probe = folder / f".{uuid.uuid4().hex}"
    probe.touch()
    mode = stat.S_IMODE(probe.stat().st_mode)
    probe.unlink()
    for path in folder.rglob("*"):
        if path.is_file():
            path.chmod(mode)


def _move_into_place(staging: Path, folder: Path) -> None:
    if not folder.exists():
        staging.rename(folder)
        return
    old = folder.with_name(f"{staging.name}.old")
    folder.rename(old)
    try:
        staging.rename(folder)
    except OSError:
        old.rename(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(folder: Path) -> None:
    """Remove temporary folders for `folder` that dead processes of this machine left behind."""
    if not folder.parent.is_dir():
        return
    ours = re.escape(f".{folder.name}.{MACHINE}.") + r"(\d+)\.[0-9a-f]{32}(\.old)?"
    for path in folder.parent.iterdir():
        found = re.fullmatch(ours, path.name)
        if found is None or path in _FILLING or is_running(int(found[1])):
            continue
        if not found[2] or folder.exists():  # otherwise it is the only copy
            shutil.rmtree(path, ignore_errors=True)


def is_running(process: int) -> bool:
    """Whether another process with this id is running, or may be."""
    if process == os.getpid():
        return False  # an earlier process of the same id, as in a restarted container
    if os.name != "posix":
        return True  # there is no way to tell
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # another user's process
        return True
    return True
