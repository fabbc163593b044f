"""Files of torch.save: find the state dict in them, and name what else they hold."""

from __future__ import annotations

import pickletools
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import torch

#: Keys under which training scripts save the state dict; the first one found is used.
WRAPPINGS = ("state_dict", "model_state_dict", "model")
# In front of all names: DataParallel's, and the usual attribute of a LightningModule.
_WRAPPERS = ("module.", "model.")
_COMPILED = "_orig_mod."  # torch.compile's, in front of the names in each compiled module
_LEGACY = 4  # pickles in a file of torch's old format; the last one holds what was saved


def bare_state_dict(loaded: Any) -> Any:
    """Return the state dict in a loaded object, with the names that the model itself uses.

    It may be bare or under one of the keys in WRAPPINGS, and saved from DataParallel, torch.compile
    or a LightningModule that holds nothing but `self.model`. Other objects are returned unchanged.
    """
    if isinstance(loaded, dict):
        wrapped = (loaded[key] for key in WRAPPINGS if isinstance(loaded.get(key), dict))
        loaded = next(wrapped, loaded)
    return _unwrapped(loaded) if isinstance(loaded, dict) else loaded


def _unwrapped(state: dict[Any, Any]) -> dict[Any, Any]:
    names = [str(name).replace(_COMPILED, "") for name in state]
    for wrapper in _around(names):
        names = [name.removeprefix(wrapper) for name in names]
    if len(set(names)) < len(state):  # two tensors of one name: it is unclear which is meant
        return state
    return dict(zip(names, state.values(), strict=True))


def _around(names: list[str]) -> Iterator[str]:
    """The wrappers in front of all names, outermost first."""
    before = ""
    while names:
        found = [one for one in _WRAPPERS if all(n.startswith(before + one) for n in names)]
        if not found:
            return
        before += found[0]
        yield found[0]


def foreign_names(path: Path) -> list[str]:
    """Names of the objects in a file that are not needed for tensors: ``["pathlib.Path", ...]``.

    The pickle is disassembled; nothing in it is imported, called or created.

    Args:
        path: a file of `torch.save`, in its zip format or the old one, or any pickle.

    Returns:
        Names in the order of the file; none if the file is no pickle or is truncated.
    """
    try:
        if not zipfile.is_zipfile(path):
            with path.open("rb") as stream:
                names = _names_of_several(stream)
        else:
            with zipfile.ZipFile(path) as archive:
                records = [name for name in archive.namelist() if f"/{name}".endswith("/data.pkl")]
                with archive.open(records[0]) as stream:
                    names = _names(stream)
    except Exception:  # damaged files fail anywhere, with a dozen types
        return []
    foreign = (".".join(name) for name in names if not _is_of_tensors(*name))
    return list(dict.fromkeys(foreign))


def _names_of_several(stream: IO[bytes]) -> list[tuple[str, str]]:
    """Names in the pickles of torch's old format, as many as there are, but at least one."""
    found = _names(stream)
    for _ in range(_LEGACY - 1):
        try:
            found += _names(stream)
        except Exception:  # a plain pickle ends here, or a file of torch is truncated
            break
    return found


def _names(stream: IO[bytes]) -> list[tuple[str, str]]:
    """Modules and names in the next pickle of a stream; raises if it is damaged."""
    found: list[tuple[str, str]] = []
    texts: list[str] = []  # in the order they were pushed on the stack
    memo: dict[Any, Any] = {}
    top: Any = None
    for operation, argument, _ in pickletools.genops(stream):
        kind = operation.name
        if kind in ("GLOBAL", "INST"):
            module, _, name = str(argument).partition(" ")
            found.append((module, name))
        elif kind == "STACK_GLOBAL":
            found.append((texts[-2], texts[-1]))
        if kind in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[argument] = top
        elif kind == "MEMOIZE":
            memo[len(memo)] = top
        else:
            top = memo.get(argument) if kind in ("GET", "BINGET", "LONG_BINGET") else argument
            if isinstance(top, str):
                texts.append(top)
    return found


def _is_of_tensors(module: str, name: str) -> bool:
    if module == "torch":
        is_dtype = isinstance(vars(torch).get(name), torch.dtype)
        return is_dtype or name.endswith("Storage") or name in ("Size", "device")
    if module == "torch._utils":
        return name.startswith("_rebuild_")
    return (module, name) in {
        ("__builtin__", "set"),
        ("_codecs", "encode"),  # how old protocols store bytes
        ("builtins", "set"),
        ("collections", "OrderedDict"),
        ("torch.nn.parameter", "Parameter"),
        ("torch.serialization", "_get_layout"),
        ("torch.storage", "TypedStorage"),
        ("torch.storage", "UntypedStorage"),
    }
