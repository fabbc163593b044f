"""All that a process has to know to serve: what `regionlm serve` was told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from regionlm.backbones.trunk_options import AS_USUAL, TrunkOptions
from regionlm.serve.limits import Limits
from regionlm.serve.settings import Settings

if TYPE_CHECKING:
    from fastapi import FastAPI

    from regionlm.serve.engine import Engine
    from regionlm.serve.metrics import NewMetrics
    from regionlm.serve.net.log_lines import LogLines


class Service(NamedTuple):
    """The parts of a service in a process."""

    app: FastAPI
    engine: Engine
    log: LogLines


@dataclass(frozen=True)
class Plan:
    """What to serve, and how. It can be pickled, for other processes.

    Args:
        model, device, offline, prefix, prompt, trunk: as in `regionlm.serve.loading.load_model`.
        settings: how the service is reached.
        limits: of requests.
    """

    model: str
    settings: Settings
    limits: Limits
    device: str = "auto"
    offline: bool = False
    prefix: str | None = None
    prompt: str | None = None
    trunk: TrunkOptions = AS_USUAL

    def build(self, metrics: NewMetrics | None = None) -> Service:
        """Load the model and put the service around it.

        metrics: makes what counts requests and answers /metrics.

        Raises:
            UserError: a model that can't be loaded, a setting that can't be used.
        """
        from regionlm.points.segmenter import load_segmenter
        from regionlm.serve.app import create_app
        from regionlm.serve.engine import Engine
        from regionlm.serve.loading import load_model
        from regionlm.serve.net.log_lines import open_log

        log = open_log(self.settings.log)
        loaded = load_model(
            self.model,
            prefix=self.prefix,
            prompt=self.prompt,
            trunk=self.trunk,
            device=self.device,
            offline=self.offline,
        )
        sam = self.settings.sam
        segmenter = load_segmenter(sam, device=self.device, offline=self.offline)
        engine = Engine(loaded, self.limits, segmenter)
        return Service(create_app(engine, self.settings, log=log, metrics=metrics), engine, log)
