"""Why a replica could not start, told to whoever started the service.

Ray Serve says of a failed deployment only that it failed, and tries again; so a replica leaves what
its user has to know with an actor, by whose name the two find each other.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from prefix_models.errors import UserError
from regionlm.extras import extra

with extra("ray"):
    import ray
    from ray.exceptions import RayError

_NAMESPACE = "regionlm"  # Ray Serve's replicas are in another than who deploys them


@dataclass(frozen=True)
class Refusals:
    """Where the replicas of one start leave their errors; can be pickled, for them."""

    name: str = field(default_factory=lambda: f"refusals-{uuid4().hex}")

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep what is told within the block."""
        named = ray.remote(_Keeper).options(name=self.name, namespace=_NAMESPACE, num_cpus=0)
        keeper: Any = named.remote()
        try:
            yield
        finally:
            ray.kill(keeper)

    def tell(self, error: UserError) -> None:
        """Leave an error, in a replica; it is there when this returns. Nobody may be listening."""
        with suppress(ValueError, RayError):  # ValueError: the service had started, and is grown
            keeper = ray.get_actor(self.name, _NAMESPACE)
            ray.get(keeper.tell.remote(pickle.dumps(error)))

    def check(self) -> None:
        """Raise the first error that was told, if any."""
        told = ray.get(ray.get_actor(self.name, _NAMESPACE).first.remote())
        if told is not None:
            raise pickle.loads(told)


class _Keeper:
    """The actor."""

    def __init__(self) -> None:
        self._first: bytes | None = None

    def tell(self, error: bytes) -> None:
        if self._first is None:
            self._first = error

    def first(self) -> bytes | None:
        return self._first
