"""Write results: checked before the work begins, put in place whole or not at all."""

from __future__ import annotations

import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from prefix_models.folders import MACHINE, is_running
from regionlm.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

#: Endings of picture files that can be written.
PICTURE_SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def check_writable(
    path: str | Path,
    suffixes: tuple[str, ...] = (),
    *,
    inputs: Iterable[str | Path | None] = (),
) -> None:
    """Raise InputError unless a file can be written at `path`; leave nothing behind.

    suffixes: the endings allowed, lower case with the dot; () allows any. An existing file is
    fine: it will be replaced, unless it is one of `inputs`.
    """
    if not str(path).strip():
        raise InputError(f"output {str(path)!r}: no name given: expected the name of a file")
    try:
        problem = _writing_problem(Path(path), suffixes, inputs)
        if problem is None:
            probe = _aside(Path(path))
            probe.open("xb").close()
            probe.unlink()
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a loop of links
        raise unwritable(path, error) from error
    if problem:
        raise InputError(f"output {path}{problem}")


def _writing_problem(
    target: Path, suffixes: tuple[str, ...], inputs: Iterable[str | Path | None]
) -> str | None:
    """Why no file can be written there, in words that follow the path; None: nothing is known."""
    if target.is_dir():
        return " is a folder: give the name of a file in it"
    if target.exists() and not target.is_file():
        return " is not a regular file: give another name"
    if any(_are_same(target, Path(one)) for one in inputs if one is not None):
        return " is one of the input files, which it would replace: give another name"
    if suffixes and target.suffix.lower() not in suffixes:
        found = target.suffix or "no ending"
        return f": expected a name ending in {', '.join(suffixes)}; found {found}"
    if not target.resolve().parent.is_dir():
        return f": the folder {target.parent} does not exist: create it"
    return None


def write_atomically(path: str | Path, write: Callable[[Path], object]) -> None:
    """Call `write` with a new path beside `path`, then move the result there.

    If `write` fails, nothing is left behind and an earlier file at `path` is untouched; what a
    killed process of this machine left behind is removed. A link is followed: the file it names is
    replaced. Raises InputError where the system refuses.
    """
    with writing(path):
        aside = _aside(Path(path))
        try:
            _remove_leftovers(aside)
            aside.touch()
            mode = stat.S_IMODE(aside.stat().st_mode)
            write(aside)
            aside.chmod(mode)  # safetensors keeps others out, whatever the umask says
            os.replace(aside, Path(path).resolve())
        finally:
            aside.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """`write_atomically` a text, in UTF-8."""
    write_atomically(path, lambda aside: aside.write_text(text, encoding="utf-8"))


def save_picture(path: str | Path, picture: Image.Image) -> None:
    """Write an RGB picture; the ending of `path` names the format (see PICTURE_SUFFIXES)."""
    check_writable(path, PICTURE_SUFFIXES)
    formats = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
    kind = formats[Path(path).suffix.lower()]
    write_atomically(path, lambda aside: picture.save(aside, format=kind))


def save_tensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write named tensors, of any device, as one safetensors file with text metadata.

    What a file's name holds that is not Unicode stands there as an escape, such as ``\\udcff``.
    """
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    check_writable(path)
    said = dict(metadata or {})
    owned = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}

    def write(aside: Path) -> None:
        try:
            save_file(owned, aside, {name: _unicode(text) for name, text in said.items()})
        except SafetensorError as error:  # a full disk, which is no OSError there
            raise OSError(str(error)) from error

    write_atomically(path, write)


def _unicode(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _are_same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except (OSError, ValueError):  # one is not there, or has a name that no file can have
        return False


def _aside(target: Path) -> Path:
    resolved = target.resolve()
    return resolved.with_name(f".{resolved.name}.{MACHINE[:16]}.{os.getpid()}.part")


def _remove_leftovers(aside: Path) -> None:
    """Remove what processes of this machine that are gone were writing, to stand at one place."""
    before = aside.name.removesuffix(f"{os.getpid()}.part")
    for path in aside.parent.glob(f"{glob.escape(before)}*.part"):
        process = path.name.removeprefix(before).removesuffix(".part")
        is_other = process.isdecimal() and int(process) != os.getpid()
        if is_other and not is_running(int(process)):
            path.unlink(missing_ok=True)


@contextmanager
def writing(path: str | Path) -> Iterator[None]:
    """Make an InputError of what the system says about a file or folder to be written."""
    try:
        yield
    except OSError as error:
        raise unwritable(path, error) from error


@contextmanager
def reading(path: str | Path) -> Iterator[None]:
    """Make an InputError of what the system says about a file to be read."""
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}") from error


def unwritable(path: str | Path, error: Exception) -> InputError:
    """Word an error of the system about a file or folder at `path`."""
    reason = getattr(error, "strerror", None) or str(error)
    return InputError(f"output {path} cannot be written: {reason}")
