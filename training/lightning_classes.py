"""Objects that a `trainer` section describes as `{class_path: ..., init_args: {...}}`."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any

from regionlm.cli.flags import UsageError, shown
from regionlm.cli.values import Arguments, WrongArgument
from regionlm.extras import extra

with extra("train"):
    from lightning.pytorch import callbacks, loggers, plugins, profilers, strategies

    from regionlm.distributed.compat import mistakes_named

#: Trainer arguments that may be objects: their class, and the module of Lightning's own.
_KINDS: dict[str, tuple[type, Any]] = {
    "callbacks": (callbacks.Callback, callbacks),
    "logger": (loggers.Logger, loggers),
    "strategy": (strategies.Strategy, strategies),
    "profiler": (profilers.Profiler, profilers),
    "plugins": (object, plugins),
}
_KEYS = {"class_path", "init_args", "dict_kwargs"}


def is_described(name: str, value: Any) -> bool:
    """Whether a Trainer argument describes an object, or a list of objects.

    Classes of Lightning may be named without their module (`EarlyStopping`).
    """
    if name not in _KINDS:
        return False
    if isinstance(value, list):
        return bool(value) and all(is_described(name, one) for one in value)
    if isinstance(value, Mapping):
        return "class_path" in value
    return isinstance(value, str) and _found(name, value) is not None


def make_described(name: str, value: Any) -> Any:
    """Create the object, or the list of objects, that a Trainer argument describes.

    Raises:
        UsageError: the class does not exist, has another kind, or does not take the arguments.
        InputError: the constructor refuses the arguments.
    """
    if isinstance(value, list):
        return [make_described(name, one) for one in value]
    described: Mapping[str, Any] = {"class_path": value} if isinstance(value, str) else value
    option = f"--trainer.{name}"
    made = _found(name, described["class_path"])
    if made is None:
        wanted = "class" if _KINDS[name][0] is object else _KINDS[name][0].__name__
        raise UsageError(
            f"{option}: expected the class_path of a {wanted}, found"
            f" {shown(described['class_path'])}"
        )
    if not described.keys() <= _KEYS:
        raise UsageError(f"{option}: expected class_path and init_args, found {shown(described)}")
    with mistakes_named("trainer"):
        try:
            arguments = Arguments(made).converted(described.get("init_args") or {})
        except WrongArgument as error:
            raise UsageError(f"{option}: {made.__name__}.{error}") from error
        return made(**arguments, **(described.get("dict_kwargs") or {}))


def _found(name: str, class_path: Any) -> type | None:
    """The class of this name, if it exists and has the kind that the argument takes."""
    kind, own = _KINDS[name]
    module, _, last = str(class_path).rpartition(".")
    try:
        found = getattr(importlib.import_module(module) if module else own, last, None)
    except ImportError:
        return None
    return found if isinstance(found, type) and issubclass(found, kind) else None
