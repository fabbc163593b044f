"""/metrics of several processes: whichever is asked answers for all."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from regionlm.extras import extra
from regionlm.serve.metrics import Metrics

with extra("serve"):
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import Metric
    from prometheus_client.parser import text_string_to_metric_families
    from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine


class SharedMetrics(Metrics):
    """Figures of all processes, told apart by the label `process`.

    Each leaves its own in a file. Call `publish` now and then; those of the process that is asked
    are always new.

    Args:
        engine: of this process.
        folder: of all processes.
        number: of this process.
    """

    def __init__(self, engine: Engine, *, folder: Path, number: int) -> None:
        super().__init__(engine)
        self._folder, self._number = folder, number
        self._publishing = threading.Lock()

    def publish(self) -> None:
        """Leave this process's figures for the others."""
        file = self._folder / f"{self._number}.prom"
        new = file.with_suffix(f".{os.getpid()}")
        # a thread publishes now and then, and so does whoever is asked
        with self._publishing, suppress(OSError):  # a full disk: the others have older ones, then
            new.write_bytes(super().text())
            os.replace(new, file)

    def text(self) -> bytes:
        """The figures of all, in Prometheus' text format."""
        self.publish()
        registry = CollectorRegistry()
        registry.register(_Together(self._folder))
        return generate_latest(registry)


class _Together(Collector):
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def collect(self) -> Iterator[Metric]:
        """Families of all processes, each once."""
        families: dict[str, Metric] = {}
        for file in sorted(self._folder.glob("*.prom")):
            for one in text_string_to_metric_families(file.read_text()):
                new = Metric(one.name, one.documentation, one.type)
                family = families.setdefault(one.name, new)
                for sample in one.samples:
                    labels = {**sample.labels, "process": file.stem}
                    family.add_sample(sample.name, labels, sample.value)
        yield from families.values()
