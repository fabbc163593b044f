"""WebDataset: tar files in which adjacent members of one name are a sample (``7.jpg``, ``7.txt``).

The webdataset library would stream them. Here they are indexed: the contents of a shard of
embeddings must not depend on the number of processes, and a stopped run must find its place.
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

from prefix_models.errors import within
from regionlm.bulk.manifest import decode
from regionlm.errors import InputError
from regionlm.files import reading
from regionlm.inputs.images import open_image_bytes
from regionlm.inputs.json_lines import without_nulls
from training.data.caption_manifest import check_said, read_said
from training.data.example import Example, Parts
from training.data.source_options import WebDatasetOptions
from training.data.tar_members import tar_members

_IMAGES = ("jpg", "jpeg", "png", "webp")
_TEXTS = ("txt", "json")
_NONE = (-1, 0)
_RANKS = ("", "txt", "json", "long", "long txt", "long json")  # kinds of endings, best first
_BRACES = re.compile(r"\{(?:([0-9]{1,9})\.\.([0-9]{1,9})|([^{}]*,[^{}]*))\}")


class WebDataset:
    """The samples of tar files, in order; each takes 48 bytes of memory.

    A sample has an image, and either a ``.txt`` with its caption, or a ``.json`` with ``caption``,
    ``captions`` or ``regions`` as in a manifest (box, rle or polygon) and any other keys. If there
    are both, the ``.txt`` is used. Longer endings, as in ``7.image.jpg`` and ``7.caption.txt``, are
    used if there is no plain one; a sample in which several would do can't be used.

    Raises InputError: a file is missing or not an uncompressed tar file, or there are no samples.
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
        """Digest of the names, sizes, times and members of the files, and their folders."""
        return {
            "shards": self._digest,
            "folders": sorted({str(f.parent.resolve()) for f in self.files}),
        }

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._places)

    def __getitem__(self, index: int) -> Example:
        """Decode a sample. Raises InputError: its image or captions are missing or unusable."""
        which, image_at, image_size, text_at, text_size, is_json = self._places[index].tolist()
        file = self.files[which]
        name = self._name(file, max(abs(image_at), abs(text_at)))
        parts = Parts(f"{file}, sample {name}", self.skip_bad)
        with within(parts.place):
            _check_found(image_at, "image", ".jpg, .png or .webp")
            _check_found(text_at, ".txt or .json", ".txt or .json")
            value = _said(_read(file, text_at, text_size), bool(is_json))
            image = open_image_bytes(_read(file, image_at, image_size), "its image")
        return read_said(value, image, file.parent, parts)

    def _name(self, file: Path, at: int) -> str:
        header = _read(file, at - tarfile.BLOCKSIZE, tarfile.BLOCKSIZE)
        member = tarfile.TarInfo.frombuf(header, "utf-8", "replace").name
        folder, slash, base = member.rpartition("/")
        return folder + slash + base.partition(".")[0]


def _find(shards: Sequence[str]) -> list[Path]:
    found: list[Path] = []
    for shard in shards:
        one = Path(shard).is_file()  # even if its name looks like a pattern
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
    """Expand braces as a shell does, except nested ones; one at a time, as there may be many."""
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


class _Sample:
    """The members of one name.

    image, text: start and length in bytes; the start is negative if several members would do.
    is_json: 1 if the text is a ``.json``, else 0.
    """

    def __init__(self) -> None:
        self.image, self.text, self.is_json = _NONE, _NONE, 0
        self._ranks = {"image": len(_RANKS), "text": len(_RANKS)}

    def add(self, kind: str, place: tuple[int, int]) -> None:
        """Use a member, unless there is a better one. kind: its ending in lower case."""
        last = kind.rpartition(".")[2]
        if last in _IMAGES:
            self.image = self._better("image", ("", "long")["." in kind], self.image, place)
        elif last in _TEXTS:
            rank = last if kind == last else f"long {last}"
            self.text = self._better("text", rank, self.text, place)
            self.is_json = int(_RANKS[self._ranks["text"]].endswith("json"))

    def _better(
        self, what: str, name: str, old: tuple[int, int], new: tuple[int, int]
    ) -> tuple[int, int]:
        rank, before = _RANKS.index(name), self._ranks[what]
        self._ranks[what] = min(rank, before)
        if rank < before:
            return new
        if rank > before or name == "json":
            return old
        return (-new[0], new[1]) if name.startswith("long") else new


def _index(file: Path, number: int, found: array, digest: Any) -> None:
    stem, sample = "", _Sample()

    def end() -> None:
        if sample.image != _NONE or sample.text != _NONE:
            found.extend((number, *sample.image, *sample.text, sample.is_json))

    try:
        for member, start in tar_members(file):
            if not member.isreg():
                continue
            digest.update(f"{member.name} {member.size}\n".encode("utf-8", "backslashreplace"))
            folder, _, name = member.name.rpartition("/")
            key, _, kind = name.partition(".")
            if f"{folder}/{key}" != stem:
                end()
                stem, sample = f"{folder}/{key}", _Sample()
            sample.add(kind.lower(), (start, member.size))
        end()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise InputError(f"{file}: expected an uncompressed tar file ({error})") from error


def _check_found(start: int, what: str, endings: str) -> None:
    if start == _NONE[0]:
        raise InputError(f"expected {'an' if what == 'image' else 'a'} {what}, found none")
    if start < 0:
        raise InputError(
            f"expected one {what}, found several: let the one to use end in plain {endings}"
        )


def _read(file: Path, start: int, size: int) -> bytes:
    with reading(file), file.open("rb") as stream:
        stream.seek(start)
        data = stream.read(size)
    if len(data) < size:
        raise InputError(f"{file} is cut off: fetch it again")
    return data


def _said(data: bytes, is_json: bool) -> dict[str, Any]:
    if not is_json:
        try:
            return {"caption": data.decode("utf-8-sig")}
        except UnicodeDecodeError as error:
            raise InputError(f"expected UTF-8, found other bytes ({error.reason})") from error
    value = without_nulls(decode(data))
    check_said(value, None)
    for region in value.get("regions", ()):
        if "mask" in region:
            raise InputError(
                "a region: expected box, rle or polygon in a tar file, found the path of a mask"
            )
    return value
