"""The pictures of a conversation: read from where an agent may read, and remembered by id."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import numpy as np

from regionlm.errors import InputError
from regionlm.inputs.encoded_files import is_data_uri
from regionlm.tools.bounds import MIB, Bounds
from regionlm.tools.sources import read_source

if TYPE_CHECKING:
    from regionlm.inputs.masks import Region
    from regionlm.inputs.points import Point
    from regionlm.inputs.regions import FindMask
    from regionlm.inputs.views import ImageView
    from regionlm.points.segmenter import Segmenter

Kept = TypeVar("Kept")

_IMAGE, _MASK = "image-", "mask-"
"""How ids of the two begin."""


class Remembered(Generic[Kept]):
    """A few things by id; what was not asked for longest is forgotten first. Threads may share it.

    Args:
        most: how many.
        most_bytes: of all together; the newest is kept, whatever its size.
        size: bytes of one; they may change.
    """

    def __init__(self, most: int, most_bytes: float, size: Callable[[Kept], int]) -> None:
        self._most, self._most_bytes, self._size = most, most_bytes, size
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, name: str) -> Kept | None:
        """What has this id, if it is still remembered."""
        with self._lock:
            if name in self._kept:
                self._kept.move_to_end(name)
            return self._kept.get(name)

    def keep(self, name: str, value: Kept) -> Kept:
        """Remember a value; returns the one that has this id already, if any."""
        with self._lock:
            found = self._kept.setdefault(name, value)
            self._kept.move_to_end(name)
            held = sum(map(self._size, self._kept.values()))
            while len(self._kept) > 1 and (len(self._kept) > self._most or held > self._most_bytes):
                held -= self._size(self._kept.popitem(last=False)[1])
            return found


class Views(Protocol):
    """Makes views of images, and knows them by id. Threads may share it."""

    def open(self, data: bytes, name: str) -> ImageView:
        """A view of a file's bytes; name: how messages call it. Raises InputError."""
        ...

    def get(self, name: str) -> ImageView | None:
        """What has this id, if it is still remembered."""
        ...

    def keep(self, name: str, view: ImageView) -> ImageView:
        """Remember a view; returns the one that has this id already, if any."""
        ...


class Workspace:
    """Where tools get their pictures from.

    Args:
        root: the only folder of which files are read; None: no file is, only data: URIs and ids.
        bounds: how much one call may ask for.
        views: whoever else keeps images, which `bounds` don't count then; by default, they are
            remembered with the masks.
        segmenter: finds what points mark; by default, by colour.

    Raises:
        InputError: `root` is no folder.
    """

    def __init__(
        self,
        root: str | Path | None = None,
        bounds: Bounds | None = None,
        views: Views | None = None,
        segmenter: Segmenter | None = None,
    ) -> None:
        if root is not None and not Path(root).is_dir():
            raise InputError(f"root: expected a folder, found {str(root)!r}")
        self.root = None if root is None else Path(root)
        self.bounds, self.segmenter = bounds or Bounds(), segmenter
        self._kept: Remembered[Any] = Remembered(  # masks, and views unless others keep them
            self.bounds.kept, self.bounds.kept_mib * MIB, lambda one: one.nbytes
        )
        self._views = views or _OwnViews(self._kept, self.bounds.pixels)

    def image(self, given: str) -> tuple[str, ImageView]:
        """An image and its id.

        given: a path in `root`, a data: URI, or the id of an image asked about before.

        Raises InputError where it can't be read, or is none of these.
        """
        earlier = self._views.get(given) if given.startswith(_IMAGE) else None
        if earlier is not None:
            return given, earlier
        name, data = self._read(given)
        view = self._views.open(data, f"image {name}")
        key = _id(_IMAGE, np.asarray(view.image))
        return key, self._views.keep(key, view)

    def masks(self, given: str, size: tuple[int, int]) -> list[Region]:
        """The regions of a mask; several where it is a label map.

        given: as for `image`, or the id of a mask that was found. size: (W, H) of its image.

        Raises InputError where it can't be read, or does not fit the image.
        """
        from regionlm.inputs.masks import Region, as_regions, regions_of_bytes

        earlier = self._kept.get(given) if given.startswith(_MASK) else None
        if earlier is not None:
            return as_regions([Region(given, earlier)], size)
        if given.startswith(_IMAGE) and self._views.get(given) is not None:
            raise InputError(
                f"mask: {given} is an image's id; give the id of a mask that find_region has found,"
                " or the mask as a path or a data: URI"
            )
        name, data = self._read(given)
        most = self.bounds.most_regions(size)
        return regions_of_bytes(data, name, size, most=self.bounds.pixels, most_regions=most)

    def find_mask(self, view: ImageView) -> FindMask:
        """What finds the mask of points of an image."""

        def found(points: Sequence[Point]) -> np.ndarray:
            from regionlm.points.segmenter import load_segmenter

            return (self.segmenter or load_segmenter()).mask(view.image, points)

        return found

    def keep_mask(self, mask: np.ndarray) -> str:
        """Remember a mask, bool [H, W]; returns its id."""
        key = _id(_MASK, mask)
        self._kept.keep(key, mask)
        return key

    def _read(self, given: str) -> tuple[str, bytes]:
        """What a picture is called, and its file's bytes."""
        data = read_source(given, self.root, self.bounds.file_mib)
        return "data: URI" if is_data_uri(given) else given, data


class _OwnViews:
    """New views, remembered with other things.

    most: pixels of an image.
    """

    def __init__(self, kept: Remembered[Any], most: int) -> None:
        self.get, self.keep, self._most = kept.get, kept.keep, most

    def open(self, data: bytes, name: str) -> ImageView:
        from regionlm.inputs.images import open_image_bytes
        from regionlm.inputs.views import ImageView

        return ImageView(open_image_bytes(data, name, self._most))


def _id(kind: str, pixels: np.ndarray) -> str:
    """The same for the same pixels, and not to be guessed without them."""
    digest = hashlib.sha256(repr(pixels.shape).encode())
    digest.update(np.ascontiguousarray(pixels).data)
    return kind + digest.hexdigest()[:16]
