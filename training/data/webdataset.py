"""WebDataset: tar files whose neighbouring members of one name are a sample (``7.jpg``, ``7.txt``).

They are indexed here rather than streamed, as the webdataset library would: what a shard of
embeddings holds must not depend on the number of processes, and a stopped run must find its place.
"""

from __future__ import annotations

import glob
import hashlib
import re
import tarfile
from array import array
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regionlm.bulk.manifest import decode
from regionlm.errors import InputError
from regionlm.inputs.images import open_image_bytes
from training.data.example import Example, Parts
from training.data.manifest import check_said, read_said
from training.data.options import WebDatasetOptions
from training.data.tar_members import tar_members

_IMAGES = ("jpg", "jpeg", "png", "webp")
_TEXTS = ("txt", "json")
_NONE = (-1, 0)
_BRACES = re.compile(r"\{(?:([0-9]{1,9})\.\.([0-9]{1,9})|([^{}]*,[^{}]*))\}")


class WebDataset:
    """Samples of tar files, in order; each takes 48 bytes of memory.

    A sample has an image and a ``.txt``, which is its caption, or a ``.json`` with ``caption``,
    ``captions`` or ``regions`` as a manifest has them (box, rle or polygon) and what else it likes.
    With both, the ``.txt`` is taken.

    Raises InputError: no such file, one that is no plain tar, or no sample in them.
    """

    def __init__(self, options: WebDatasetOptions, *, skip_bad: bool = False) -> None:
        shards, self.skip_bad = options.shards, skip_bad
        self.files = _find([shards] if isinstance(shards, str) else shards)
        digest = hashlib.sha256()
        found = array("q")
        for number, file in enumerate(self.files):
            status = file.stat()
            digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
            _index(file, number, found, digest)
        self._places = np.array(found, np.int64).reshape(-1, 6)
        if not len(self._places):
            raise InputError(f"{self.files[0]}: expected images and captions, found none")
        self._digest = digest.hexdigest()

    @property
    def key(self) -> dict[str, Any]:
        """Digest of the files' names, sizes, times and members; their contents are not read."""
        return {
            "shards": self._digest,
            "folders": sorted({str(f.parent.resolve()) for f in self.files}),
        }

    def __len__(self) -> int:
        """How many samples."""
        return len(self._places)

    def __getitem__(self, index: int) -> Example:
        """Decode one; InputError: its image or captions are missing or can't be used."""
        which, image_at, image_size, text_at, text_size, is_json = self._places[index].tolist()
        file = self.files[which]
        parts = Parts(f"{file}, sample {self._name(file, max(image_at, text_at))}", self.skip_bad)
        try:
            if image_at < 0 or text_at < 0:
                missing = "an image" if image_at < 0 else "a .txt or .json"
                raise InputError(f"expected {missing}, found none")
            value = _said(_read(file, text_at, text_size), bool(is_json))
            image = open_image_bytes(_read(file, image_at, image_size), "its image")
        except InputError as error:
            raise InputError(f"{parts.place}: {error}") from error
        return read_said(value, image, file.parent, parts)

    def _name(self, file: Path, at: int) -> str:
        header = _read(file, at - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE)
        return tarfile.TarInfo.frombuf(header, "utf-8", "replace").name.rsplit(".", 1)[0]


def _find(shards: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for shard in shards:
        one = Path(shard).is_file()  # whatever its name looks like
        for pattern in [str(shard)] if one else _expand(str(shard)):
            files = [Path(pattern)]
            if not files[0].is_file():
                files = [Path(name) for name in sorted(glob.glob(pattern))]
            if not files:
                raise InputError(f"webdataset: expected tar files at {pattern}, found none")
            found += files
    if not found:
        raise InputError("webdataset: expected tar files, found an empty list")
    return found


def _expand(pattern: str) -> Iterator[str]:
    """What a shell makes of braces, but for braces in braces; one by one, as they may be many."""
    braces = _BRACES.search(pattern)
    if braces is None:
        yield pattern
        return
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    first, last, names = braces.groups()
    for choice in _numbers(first, last) if names is None else names.split(","):
        for rest in _expand(after):
            yield before + choice + rest


def _numbers(first: str, last: str) -> Iterator[str]:
    padded = any(end.startswith("0") and len(end) > 1 for end in (first, last))
    width = max(len(first), len(last)) if padded else 0
    step = 1 if int(first) <= int(last) else -1
    for number in range(int(first), int(last) + step, step):
        yield str(number).zfill(width)


def _index(file: Path, number: int, found: array, digest: Any) -> None:
    stem, image, text, is_json = "", _NONE, _NONE, 0

    def end() -> None:
        if image != _NONE or text != _NONE:
            found.extend((number, *image, *text, is_json))

    try:
        for member, start in tar_members(file):
            if not member.isreg():
                continue
            digest.update(f"{member.name} {member.size}\n".encode("utf-8", "backslashreplace"))
            folder, _, name = member.name.rpartition("/")
            key, _, kind = name.partition(".")
            if f"{folder}/{key}" != stem:
                end()
                stem, image, text, is_json = f"{folder}/{key}", _NONE, _NONE, 0
            place = (start, member.size)
            if kind.lower() in _IMAGES:
                image = place
            elif kind.lower() in _TEXTS and (text == _NONE or kind.lower() == "txt"):
                text, is_json = place, int(kind.lower() == "json")
        end()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{file}: expected an uncompressed tar file ({error})") from error


def _read(file: Path, start: int, size: int) -> bytes:
    try:
        with file.open("rb") as stream:
            stream.seek(start)
            data = stream.read(size)
    except OSError as error:
        raise InputError(f"{file} cannot be read: {error.strerror or error}") from error
    if len(data) < size:
        raise InputError(f"{file} is cut off: fetch it again")
    return data


def _said(data: bytes, is_json: bool) -> dict[str, Any]:
    if not is_json:
        try:
            return {"caption": data.decode("utf-8-sig")}
        except UnicodeDecodeError as error:
            raise InputError(f"expected UTF-8, found other bytes ({error.reason})") from error
    value = decode(data)
    check_said(value, None)
    for region in value.get("regions", ()):
        if "mask" in region:
            raise InputError("a region of a tar file has a box, rle or polygon; found a mask file")
    return value
