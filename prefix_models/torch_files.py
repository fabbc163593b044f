"""Files of torch.save: the state dict in what they hold, and what they name besides tensors."""

from __future__ import annotations

import pickletools
import zipfile
from pathlib import Path
from typing import IO, Any

import torch

#: Under which training scripts put the state dict; the first that is there is taken.
WRAPPINGS = ("state_dict", "model_state_dict", "model")
_PARALLEL = "module."  # before every name, as DataParallel has it
_LEGACY = 4  # pickles of torch's old format; the last of them is what was saved


def bare_state_dict(loaded: Any) -> Any:
    """Return the state dict in what was loaded: bare, under one of WRAPPINGS, of DataParallel.

    Anything else comes back as it is.
    """
    if isinstance(loaded, dict):
        wrapped = (loaded[key] for key in WRAPPINGS if isinstance(loaded.get(key), dict))
        loaded = next(wrapped, loaded)
    if isinstance(loaded, dict) and all(str(name).startswith(_PARALLEL) for name in loaded):
        return {str(name).removeprefix(_PARALLEL): value for name, value in loaded.items()}
    return loaded


def foreign_names(path: Path) -> list[str]:
    """Objects that a file names besides what tensors are made of: ``["pathlib.Path", ...]``.

    Learnt by disassembling it: nothing in it is imported, called or made.

    Args:
        path: a file of `torch.save`, of its format in a zip or the old one, or any pickle.

    Returns:
        Names in the order of the file; none of a file that is no pickle, or breaks off early.
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
    """Those in the pickles of torch's old format, or as many as there are, at least one."""
    found = _names(stream)
    for _ in range(_LEGACY - 1):
        try:
            found += _names(stream)
        except Exception:  # a plain pickle has ended, or a file of torch is cut off
            break
    return found


def _names(stream: IO[bytes]) -> list[tuple[str, str]]:
    """Modules and names in the pickle that a stream goes on with; an exception if it is damaged."""
    found: list[tuple[str, str]] = []
    texts: list[str] = []  # as they were laid on the stack
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
        ("_codecs", "encode"),  # how old protocols spell bytes
        ("builtins", "set"),
        ("collections", "OrderedDict"),
        ("torch.nn.parameter", "Parameter"),
        ("torch.serialization", "_get_layout"),
        ("torch.storage", "TypedStorage"),
        ("torch.storage", "UntypedStorage"),
    }
