"""The service on a Ray cluster: replicas of the app behind Ray Serve.

    serve run regionlm.serve.deployment:app model=mini max_replicas=4

Each replica has a GPU of its own, or a CPU where the cluster has no GPUs. Requests that wait in a
replica are worked together by its engine, as in `regionlm serve`; `docs/ray.md` says why not by
``@serve.batch``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Literal

from yaml import YAMLError, safe_load

from prefix_models.checks import Checked, PositiveCount, Range
from regionlm.distributed.ray_cluster import count_of
from regionlm.errors import InputError
from regionlm.extras import extra
from regionlm.serve.limits import Limits
from regionlm.serve.settings import Settings

with extra("ray"):
    import ray
    from fastapi import FastAPI
    from ray import serve

NAME = "regionlm"

# Requests beyond what may wait for a replica's model are refused by the replica, with 429; Ray
# Serve itself would keep them.
_SPARE = 4


@dataclass(frozen=True, kw_only=True)
class Replicas(Checked):
    """What replicas are, and how many.

    Args:
        model, prefix, prompt, device, offline: as of `regionlm serve`; the device is auto, cpu or
            cuda, and is a GPU that Ray chooses, or the CPU.
        min_replicas, max_replicas: there are as many between these as the requests need.
        busy: requests at a time from which on there is another replica.

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
        arguments: by name those of `Replicas`, `Settings` and `Limits`; host and port are those of
            Ray Serve's own proxies. Words are read as YAML.

    Raises:
        InputError: an unknown argument, or one out of range.
    """
    given = {name: _value(one) for name, one in arguments.items()}
    parts = [_part(kind, given) for kind in (Replicas, Settings, Limits)]
    known = [one.name for part in parts for one in fields(part)]
    for name in given:
        if name not in known:
            raise InputError(f"{name}: no such argument; expected {', '.join(known)}")
    return application(*parts)


def application(replicas: Replicas, settings: Settings, limits: Limits) -> serve.Application:
    """The application for these settings.

    Raises:
        InputError: more replicas at least than at most.
    """
    if replicas.min_replicas > replicas.max_replicas:
        raise InputError(
            f"min_replicas: expected at most {replicas.max_replicas} (max_replicas), found"
            f" {replicas.min_replicas}"
        )
    on_gpu = replicas.device == "cuda" or (
        replicas.device == "auto" and ray.is_initialized() and count_of("GPU") > 0
    )

    def in_replica() -> FastAPI:
        return _replica_app(replicas, settings, limits, "cuda" if on_gpu else "cpu")

    deployed = serve.deployment(
        name=NAME,
        ray_actor_options={"num_gpus": 1, "num_cpus": 0} if on_gpu else {"num_cpus": 1},
        max_ongoing_requests=_SPARE * (limits.max_queue + limits.max_batch),
        autoscaling_config={
            "min_replicas": replicas.min_replicas,
            "max_replicas": replicas.max_replicas,
            "target_ongoing_requests": replicas.busy,
        },
        graceful_shutdown_timeout_s=limits.timeout,
    )(serve.ingress(in_replica)(_Replica))
    return deployed.bind()


class _Replica:
    """What Ray Serve keeps for each replica; all is in the app."""


def _replica_app(replicas: Replicas, settings: Settings, limits: Limits, device: str) -> FastAPI:
    """The app of one replica, with an engine and a model of its own."""
    from regionlm.serve.app import create_app
    from regionlm.serve.engine import Engine
    from regionlm.serve.loading import load_model
    from regionlm.serve.net.log_lines import open_log

    model = load_model(
        replicas.model,
        prefix=replicas.prefix,
        prompt=replicas.prompt,
        device=device,
        offline=replicas.offline,
    )
    return create_app(Engine(model, limits), settings, log=open_log(settings.log))


def _part(kind: Any, given: Mapping[str, Any]) -> Any:
    names = [one.name for one in fields(kind)]
    return kind(**{name: given[name] for name in names if name in given})


def _value(word: Any) -> Any:
    """`serve run` gives words, a configuration gives values."""
    if not isinstance(word, str):
        return word
    try:
        return safe_load(word)
    except YAMLError:
        return word
