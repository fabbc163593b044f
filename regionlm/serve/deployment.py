"""The service on a Ray cluster: replicas of the app behind Ray Serve.

    serve run regionlm.serve.deployment:app model=mini max_replicas=4

Each replica has a GPU of its own, or a CPU where the cluster has no GPUs. Requests that wait in a
replica are worked together by its engine, as in `regionlm serve`; docs/ray.md says why not by
``@serve.batch``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

from yaml import YAMLError, safe_load

from prefix_models.checks import PositiveCount, Range
from prefix_models.errors import UserError
from regionlm.auto import find_captioner
from regionlm.backbones.trunk_options import TrunkOptions
from regionlm.distributed.ray_cluster import check_devices, connected, takes_gpus
from regionlm.distributed.signals import StopSignals
from regionlm.errors import InputError, NoCaptionsError
from regionlm.extras import extra
from regionlm.pretrained.sources import is_hub_id
from regionlm.serve.limits import Limits
from regionlm.serve.listening import address_of, listen
from regionlm.serve.net.tokens import VARIABLE
from regionlm.serve.plan import Plan
from regionlm.serve.ray_refusals import Refusals
from regionlm.serve.settings import Settings

with extra("ray"):
    import ray
    from fastapi import FastAPI
    from ray import serve
    from ray.serve.schema import ApplicationStatus

NAME = "regionlm"

_OF_RAY = ("host", "port", "devices")
_POLL = 0.2  # seconds between looks whether to stop
# What is beyond the queue of a replica's engine is refused by the engine, with 429 and a word when
# to come again; Ray Serve would keep it without a word.
_BEYOND = 4


@dataclass(frozen=True, kw_only=True)
class Replicas(TrunkOptions):
    """What replicas are, and how many.

    Args:
        precision, compile, model, prefix, prompt, offline: as of `regionlm.serve.plan.Plan`.
        device: a GPU for each replica with cuda, a CPU with cpu; auto takes GPUs if the cluster has
            any.
        min_replicas, max_replicas: there are as many between these as the requests need.
        busy: requests at a time in each replica, from which on there are more replicas.

    Raises:
        InputError: a setting out of range.
    """

    error: ClassVar[type[InputError]] = InputError

    model: str = "mini"
    prefix: str | None = None
    prompt: str | None = None
    device: Literal["auto", "cpu", "cuda"] = "auto"
    offline: bool = False
    min_replicas: Annotated[int, Range(0)] = 1
    max_replicas: PositiveCount = 1
    busy: PositiveCount = 8


def app(arguments: dict[str, Any]) -> serve.Application:
    """The application, as ``serve run`` and the configuration of a cluster name it.

    Args:
        arguments: by name those of `Replicas`, `Settings` and `Limits`, except where to listen and
            on which devices, which are matters of Ray. Words are read as YAML.

    Raises:
        InputError: an unknown argument, or one out of range.
    """
    given = {name: _value(one) for name, one in arguments.items()}
    names = [one.name for kind in (Replicas, Settings, Limits) for one in fields(kind)]
    known = [name for name in names if name not in _OF_RAY]
    for name in given:
        if name not in known:
            raise InputError(f"{name}: no such argument; expected {', '.join(known)}")
    return application(_part(Replicas, given), _part(Settings, given), _part(Limits, given))


def application(
    replicas: Replicas, settings: Settings, limits: Limits, refusals: Refusals | None = None
) -> serve.Application:
    """The application for these settings, with the tokens and the folder of this process.

    refusals: where replicas leave why they can't start.

    Raises:
        InputError: more replicas at least than at most, or a precision that their device lacks.
    """
    if replicas.min_replicas > replicas.max_replicas:
        raise InputError(
            f"min_replicas: expected at most {replicas.max_replicas} (max_replicas), found"
            f" {replicas.min_replicas}"
        )
    device = replicas.device  # without a cluster, as where the application is only built, a CPU
    on_gpu = device == "cuda" or (ray.is_initialized() and takes_gpus(device))
    replicas.check_on("cuda" if on_gpu else "cpu")
    plan = Plan(
        replicas.model,
        settings,
        limits,
        device="cuda" if on_gpu else "cpu",
        offline=replicas.offline,
        prefix=replicas.prefix,
        prompt=replicas.prompt,
        trunk=replicas.trunk,
    )

    folder, tokens = os.getcwd(), os.environ.get(VARIABLE)

    def in_replica() -> FastAPI:
        with suppress(OSError):  # where relative paths start, if this machine has it
            os.chdir(folder)
        if tokens is not None:  # a cluster that ran before does not have this environment
            os.environ[VARIABLE] = tokens
        with ThreadPoolExecutor(1) as beside:  # Ray's event loop, on which this runs
            return beside.submit(_built, plan, refusals).result()

    deployed = serve.deployment(
        name=NAME,
        ray_actor_options={"num_gpus": 1, "num_cpus": 0} if on_gpu else {"num_cpus": 1},
        max_ongoing_requests=_BEYOND * (limits.max_queue + limits.max_batch),
        autoscaling_config={
            "min_replicas": replicas.min_replicas,
            "max_replicas": replicas.max_replicas,
            "target_ongoing_requests": replicas.busy,
        },
        graceful_shutdown_timeout_s=limits.timeout,
    )
    return deployed(serve.ingress(in_replica)(_Replica)).bind()


def run_on_ray(replicas: Replicas, settings: Settings, limits: Limits, address: bool | str) -> None:
    """Serve on a cluster until SIGTERM or SIGINT; running requests are finished first.

    Args:
        replicas, settings, limits: of the service.
        address: as of `regionlm.distributed.ray_cluster.connected`.

    Raises:
        UserError: no cluster there, settings or a model that can't be used.
    """
    if not str(address).startswith("ray://"):  # there, this machine is none of the cluster's
        _check_model(replicas)
    refusals = Refusals()
    with StopSignals(lambda: True) as signals, connected(address):
        check_devices(replicas.min_replicas, takes_gpus(replicas.device))
        deployed = application(replicas, settings, limits, refusals)
        where, model, count = _start_serve(settings), replicas.model, replicas.min_replicas
        signals.install()  # Ray has put its own in their place
        try:
            with refusals.kept():
                serve.run_many(
                    [serve.RunTarget(deployed, name=NAME)], wait_for_applications_running=False
                )
                while not (signals.received or _is_running(refusals)):
                    time.sleep(_POLL)
            if not signals.received:
                print(f"regionlm: serving {model} on {where}, replicas: {count}", flush=True)
            while not signals.received:
                time.sleep(_POLL)
        finally:
            serve.delete(NAME)


def _check_model(replicas: Replicas) -> None:
    """Raise what loading would, as far as it is known without downloads and weights."""
    if not is_hub_id(replicas.model):
        with suppress(NoCaptionsError):
            find_captioner(
                replicas.model, prefix=replicas.prefix, prompt=replicas.prompt, offline=True
            )


def _start_serve(settings: Settings) -> str:
    """Start Ray Serve unless it runs; where it listens. Raises InputError: it can't there."""
    if serve.status().proxies:
        return "the address of the Ray Serve that runs already"
    with listen(settings) as free:  # Ray Serve would not say which port it has taken for 0
        where, port = address_of(free), free.getsockname()[1]
    serve.start(http_options={"host": settings.host, "port": port})
    return where


def _is_running(refusals: Refusals) -> bool:
    """Whether replicas answer. Raises UserError: why one can't."""
    found = serve.status().applications[NAME]
    refusals.check()
    if found.status == ApplicationStatus.DEPLOY_FAILED:
        raise RuntimeError(found.message)
    return found.status == ApplicationStatus.RUNNING


class _Replica:
    """What Ray Serve makes a replica of; all that it does is in the app."""


def _built(plan: Plan, refusals: Refusals | None) -> FastAPI:
    """The app of a replica."""
    from regionlm.serve.running import warm_up

    try:
        service = plan.build()
        if plan.settings.warmup:
            warm_up(service.engine)
    except UserError as error:
        if refusals is not None:
            refusals.tell(error)
        raise
    return service.app


def _part(kind: Any, given: Mapping[str, Any]) -> Any:
    names = [one.name for one in fields(kind)]
    return kind(**{name: given[name] for name in names if name in given})


def _value(word: Any) -> Any:
    """A value; `serve run` gives words, a configuration gives values."""
    if not isinstance(word, str):
        return word
    try:
        return safe_load(word)
    except YAMLError:
        return word
