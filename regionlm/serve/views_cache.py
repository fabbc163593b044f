"""Views of the images seen last, by the digest of their files, bounded in memory."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable
from threading import Lock

from regionlm.inputs.views import ImageView


class ViewsCache:
    """An image that was seen before is neither decoded nor encoded again. May be shared by threads.

    Views grow as the model works on them: call `settle` with those it has worked on.

    Args:
        mebibytes: most memory of all views together.
    """

    def __init__(self, mebibytes: float) -> None:
        self._most = int(mebibytes * 2**20)
        self._views: OrderedDict[bytes, ImageView] = OrderedDict()  # the one used last is last
        self._sizes: dict[bytes, int] = {}
        self._digests: dict[int, bytes] = {}  # by id: views stay alive as long as they are here
        self._lock = Lock()
        self.hits = self.misses = 0

    @property
    def nbytes(self) -> int:
        """Memory of all views, as far as it is settled."""
        return sum(self._sizes.values())

    def __len__(self) -> int:
        return len(self._views)

    def view(self, data: bytes, read: Callable[[bytes], ImageView]) -> ImageView:
        """The view of a file's bytes; ``read`` makes it if there is none. Raises as that does."""
        digest = hashlib.sha256(data).digest()
        with self._lock:
            if digest in self._views:
                self.hits += 1
                self._views.move_to_end(digest)
                return self._views[digest]
            self.misses += 1
        view = read(data)
        with self._lock:
            if digest in self._views:  # another thread was faster
                return self._views[digest]
            self._views[digest], self._sizes[digest] = view, view.nbytes
            self._digests[id(view)] = digest
            self._shrink()
        return view

    def use(self, view: ImageView) -> bool:
        """Whether a view is still kept; if so, it counts as asked for now."""
        with self._lock:
            digest = self._digests.get(id(view))
            if digest is None or self._views[digest] is not view:
                return False
            self._views.move_to_end(digest)
            return True

    def settle(self, views: Iterable[ImageView]) -> None:
        """Count the memory of these views anew, and forget those not used for the longest time."""
        with self._lock:
            for view in views:
                digest = self._digests.get(id(view))
                if digest is not None and self._views.get(digest) is view:
                    self._sizes[digest] = view.nbytes
            self._shrink()

    def _shrink(self) -> None:
        total = self.nbytes
        while total > self._most and self._views:
            digest, view = self._views.popitem(last=False)
            total -= self._sizes.pop(digest)
            del self._digests[id(view)]
