"""WebDataset: tar files in which adjacent members of one name are a sample (``7.jpg``, ``7.txt``).

The webdataset library would stream them. Here they are indexed: what is made of a sample must not
depend on the number of processes, and a stopped run must find its place.
"""

from __future__ import annotations

import hashlib
import tarfile
from array import array
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from regionlm.errors import InputError
from regionlm.files import reading
from regionlm.inputs.shards import find_shards
from regionlm.inputs.tar_members import member_at, tar_members

_IMAGES = ("jpg", "jpeg", "png", "webp")
_NONE = (-1, 0)
_COLUMNS = 7


class TarSamples:
    """The samples of tar files, in order; each takes 56 bytes of memory.

    A sample has an image and a text. Longer endings, as in ``7.image.jpg`` and ``7.caption.txt``,
    are used if there is no plain one; a sample in which several would do, such as ``7.jpg`` and
    ``7.png``, can't be used.

    files: the tar files. digest: of their names, sizes, times and members.

    Args:
        shards: as in `find_shards`.
        texts: endings that a text may have, best first: ``txt`` and ``json``.
        what: what the files should hold, for messages.

    Raises InputError: a file is missing or not an uncompressed tar file, or there are no samples.
    """

    def __init__(self, shards: str | Sequence[str], texts: Sequence[str], what: str) -> None:
        self.files = find_shards(shards, "tar files")
        self._endings = ".jpg, .png or .webp", " or ".join(f".{one}" for one in texts)
        digest, found = hashlib.sha256(), array("q")
        for number, file in enumerate(self.files):
            with reading(file):
                status = file.stat()
            digest.update(f"{file.name} {status.st_size} {status.st_mtime_ns}\n".encode())
            _Index(number, texts, found, digest).read(file)
        self._places = np.array(found, np.int64).reshape(-1, _COLUMNS)
        if not len(self._places):
            raise InputError(f"{self.files[0]}: expected {what}, found none")
        self.digest = digest.hexdigest()

    def __len__(self) -> int:
        """Number of samples."""
        return len(self._places)

    def file(self, index: int) -> Path:
        """The tar file of a sample."""
        return self.files[self._places[index, 0]]

    def member(self, index: int) -> str:
        """Name of a sample's image, or of its text if it has no image, with its folder."""
        file = self.file(index)
        try:
            with reading(file):
                return member_at(file, int(self._places[index, 6])).name
        except (tarfile.TarError, EOFError) as error:
            raise InputError(f"{file} has changed: start again") from error

    def check_image(self, index: int) -> None:
        """Raise InputError unless a sample has one image."""
        _check_found(int(self._places[index, 1]), "image", self._endings[0])

    def image(self, index: int) -> bytes:
        """The image of a sample, as it is in the file. Raises InputError: none, or several."""
        self.check_image(index)
        start, size = self._places[index, 1:3].tolist()
        return _read(self.file(index), start, size)

    def text(self, index: int) -> tuple[bytes, bool]:
        """The text of a sample, and whether it is JSON. Raises InputError: none, or several."""
        start, size, is_json = self._places[index, 3:6].tolist()
        _check_found(start, self._endings[1], self._endings[1])
        return _read(self.file(index), start, size), bool(is_json)


def sample_name(member: str) -> str:
    """The name of a sample: that of a member, without what follows the first dot."""
    folder, slash, base = member.rpartition("/")
    return folder + slash + base.partition(".")[0]


def refuse_mask_files(regions: Sequence[Mapping[str, Any]]) -> None:
    """Raise InputError if a region is the path of a file, which a tar file does not hold."""
    if any("mask" in region for region in regions):
        raise InputError(
            "a region: expected box, rle or polygon in a tar file, found the path of a mask"
        )


class _Sample:
    """The members of one name.

    image, text: start and length in bytes; the start is negative if several members would do.
    is_json: 1 if the text is a ``.json``, else 0. header: start of the image's header, or of the
    text's.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self.image, self.text, self.is_json, self.header = _NONE, _NONE, 0, 0
        self._texts = texts
        self._kinds = ["", *texts, "long", *(f"long {one}" for one in texts)]  # best first
        self._ranks = {"image": len(self._kinds), "text": len(self._kinds)}
        self._endings = {"image": "", "text": ""}  # of the members in use

    def add(self, kind: str, place: tuple[int, int], header: int) -> None:
        """Use a member, unless there is a better one. kind: its ending in lower case."""
        last = kind.rpartition(".")[2]
        if last in _IMAGES:
            self.image = self._better("image", ("", "long")["." in kind], kind, self.image, place)
            used = self.image
        elif last in self._texts:
            rank = last if kind == last else f"long {last}"
            self.text = self._better("text", rank, kind, self.text, place)
            self.is_json = int(self._kinds[self._ranks["text"]].endswith("json"))
            used = self.text if self.image == _NONE else _NONE
        else:
            return
        if used == place:
            self.header = header

    def _better(
        self, what: str, name: str, kind: str, old: tuple[int, int], new: tuple[int, int]
    ) -> tuple[int, int]:
        rank, before = self._kinds.index(name), self._ranks[what]
        self._ranks[what] = min(rank, before)
        if rank < before:
            self._endings[what] = kind
            return new
        if rank > before or name == "json":
            return old
        is_again = kind == self._endings[what] and not name.startswith("long")
        return new if is_again and old[0] >= 0 else (-new[0], new[1])


class _Index:
    """Finds the samples of one file.

    Args:
        number: of the file.
        texts: as in `TarSamples`.
        found: to which seven numbers a sample are added.
        digest: which is fed with the names and sizes of members.
    """

    def __init__(self, number: int, texts: Sequence[str], found: array, digest: Any) -> None:
        self._number, self._texts, self._found, self._digest = number, texts, found, digest
        self._stem, self._sample = "", _Sample(texts)

    def read(self, file: Path) -> None:
        """Go through a file. Raises InputError: it is no uncompressed tar file."""
        try:
            for member, start in tar_members(file):
                if member.isreg():
                    self._see(member, start)
            self._end()
        except (tarfile.TarError, OSError, EOFError) as error:
            raise InputError(f"{file}: expected an uncompressed tar file ({error})") from error

    def _see(self, member: tarfile.TarInfo, start: int) -> None:
        self._digest.update(f"{member.name} {member.size}\n".encode("utf-8", "backslashreplace"))
        folder, _, name = member.name.rpartition("/")
        key, _, kind = name.partition(".")
        if not key:  # macOS writes ._7.jpg beside 7.jpg
            return
        if f"{folder}/{key}" != self._stem:
            self._end()
            self._stem, self._sample = f"{folder}/{key}", _Sample(self._texts)
        header = start - member.offset_data + member.offset
        self._sample.add(kind.lower(), (start, member.size), header)

    def _end(self) -> None:
        one = self._sample
        if one.image != _NONE or one.text != _NONE:
            self._found.extend((self._number, *one.image, *one.text, one.is_json, one.header))


def _check_found(start: int, what: str, endings: str) -> None:
    if start == _NONE[0]:
        raise InputError(
            f"expected {'an' if what == 'image' else 'a'} {what}, found none next to it: the files"
            " of a sample have one name, and follow each other in the tar file"
        )
    if start < 0:
        raise InputError(
            f"expected one {what}, found several: let only the one to use end in plain {endings}"
        )


def _read(file: Path, start: int, size: int) -> bytes:
    with reading(file), file.open("rb") as stream:
        stream.seek(start)
        data = stream.read(size)
    if len(data) < size:
        raise InputError(f"{file} is cut off: fetch it again")
    return data
