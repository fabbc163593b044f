"""`regionlm serve`: an HTTP service in front of a model."""

from __future__ import annotations

from regionlm.cli.options import Model, Service, ServiceLimits


def serve(model: Model, service: Service, limits: ServiceLimits) -> None:
    """Answer questions about regions of images over HTTP.

    Prints the address, and serves until it is interrupted.
    """
    from regionlm.points.segmenter import load_segmenter
    from regionlm.serve.app import create_app
    from regionlm.serve.engine import Engine
    from regionlm.serve.loading import load_model
    from regionlm.serve.net.log_lines import open_log
    from regionlm.serve.running import run

    log = open_log(service.log)
    loaded = load_model(
        model.model,
        prefix=service.prefix,
        prompt=service.prompt,
        device=model.device,
        offline=model.offline,
    )
    segmenter = load_segmenter(service.sam, device=model.device, offline=model.offline)
    engine = Engine(loaded, limits, segmenter)
    run(create_app(engine, service, log=log), engine, service)
    log.close()
