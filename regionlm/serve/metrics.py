"""What /metrics says, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from regionlm.extras import extra

with extra("serve"):
    from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
    from prometheus_client.registry import Collector

if TYPE_CHECKING:
    from regionlm.serve.engine import Engine

_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Metrics:
    """Counts requests, and reads the engine's own figures when it is asked.

    Args:
        engine: see there.
    """

    def __init__(self, engine: Engine) -> None:
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "regionlm_requests", "Requests.", ["path", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "regionlm_request_seconds",
            "Time from the arrival of a request to the end of its reply.",
            ["path"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._registry.register(_EngineFigures(engine))

    def count(self, path: str, status: int, seconds: float) -> None:
        """Count a request. path: of its route, not of its own, of which there is no end."""
        self._requests.labels(path, str(status)).inc()
        self._seconds.labels(path).observe(seconds)

    def text(self) -> bytes:
        """All figures, in Prometheus' text format."""
        return generate_latest(self._registry)


NewMetrics = Callable[["Engine"], Metrics]
"""Makes them for an engine."""


class _EngineFigures(Collector):
    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def collect(self) -> Iterator[Metric]:
        """The engine's figures as they are now."""
        engine, views = self._engine, self._engine.views
        for name, figures, told in (
            ("questions", engine.tally.answered, "Questions answered."),
            ("failures", engine.tally.failed, "Questions that ended in an error."),
            ("batches", engine.tally.batches, "Batches: questions worked together."),
            ("work_seconds", engine.tally.seconds, "Time the model was at work."),
        ):
            family = CounterMetricFamily(f"regionlm_{name}", told, labels=["kind"])
            for kind, value in dict(figures).items():
                family.add_metric([kind], value)
            yield family
        yield CounterMetricFamily("regionlm_view_hits", "Images seen before.", views.hits)
        yield CounterMetricFamily("regionlm_view_misses", "Images not seen before.", views.misses)
        hits = engine.answers.hits
        yield CounterMetricFamily("regionlm_answer_hits", "Questions asked before.", hits)
        yield GaugeMetricFamily("regionlm_view_bytes", "Memory of images kept.", views.nbytes)
        yield GaugeMetricFamily("regionlm_waiting", "Questions that wait.", engine.waiting)
