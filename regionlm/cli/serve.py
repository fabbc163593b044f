"""`regionlm serve`: an HTTP service in front of a model."""

from __future__ import annotations

from regionlm.cli.options import ModelRun, Service, ServiceLimits
from regionlm.errors import InputError


def serve(model: ModelRun, service: Service, limits: ServiceLimits) -> None:
    """Answer questions about regions of images over HTTP.

    Prints the address, and serves until it is interrupted.
    """
    if service.ray:
        _serve_on_ray(model, service, limits)
        return
    from regionlm.serve.plan import Plan

    plan = Plan(
        model.model,
        service,
        limits,
        device=model.device,
        offline=model.offline,
        prefix=service.prefix,
        prompt=service.prompt,
        trunk=model.trunk,
    )
    if service.devices:
        if model.device != ModelRun().device:
            raise InputError("--devices: found --device as well; leave one of them out")
        from regionlm.serve.worker import run_processes

        run_processes(plan)
        return
    from regionlm.serve.running import run

    app, engine, log = plan.build()
    run(app, engine, service)
    log.close()


def _serve_on_ray(model: ModelRun, service: Service, limits: ServiceLimits) -> None:
    count = service.devices or ["1"]
    if len(count) != 1 or not count[0].isdigit():
        raise InputError(
            f"--devices: expected a number with --ray, which chooses them; found {' '.join(count)}"
        )
    from regionlm.serve.deployment import Replicas, run_on_ray

    asked = {
        "model": model.model,
        "prefix": service.prefix,
        "prompt": service.prompt,
        "device": model.device,
        "offline": model.offline,
        "min_replicas": int(count[0]),
        "max_replicas": int(count[0]),
        **model.chosen,
    }
    run_on_ray(Replicas.read(asked, "--ray"), service, limits, service.ray)
