"""Read TorchScript archives, the format of OpenAI's published CLIPs, as plain tensors.

PyTorch's own reader builds the module from its code and is deprecated; this one runs no code.
"""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_DTYPES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())


def torchscript_classes(path: Path) -> str:
    """The names and contents of an archive's code files, which name the modules' classes."""
    with zipfile.ZipFile(path) as archive:
        names = [n for n in archive.namelist() if n.partition("/")[2].startswith("code/")]
        code = [archive.read(name).decode("utf-8", "replace") for name in names]
    return "\n".join([*names, *code])


def read_torchscript(path: Path) -> dict[str, Tensor]:
    """The tensors of an archive's module, on the CPU, under the names of its state dict.

    Raises:
        pickle.UnpicklingError: it holds other objects. Damaged files cause all kinds of errors of
            ``zipfile``, ``pickle`` and ``torch``.
    """
    with zipfile.ZipFile(path) as archive:
        root = next(n for n in archive.namelist() if n.partition("/")[2] == "data.pkl")
        folder = root.partition("/")[0]
        with archive.open(root) as file:
            module = _Reader(file, lambda key: archive.read(f"{folder}/data/{key}")).load()
    return dict(_tensors(module, ""))


class _Part:
    """The attributes of a module, or of any other object of PyTorch, without its behaviour."""

    def __init__(self, *arguments: Any) -> None:
        pass


def _tensors(part: object, above: str) -> Iterator[tuple[str, Tensor]]:
    for name, value in vars(part).items():
        if isinstance(value, Tensor):
            yield above + name, value
        elif isinstance(value, _Part):
            yield from _tensors(value, f"{above}{name}.")


def _tensor(numbers: Tensor, offset: int, size: Sequence[int], stride: Sequence[int],
            *_: object) -> Tensor:  # fmt: skip
    return numbers.as_strided(size, stride, offset)


class _Reader(pickle.Unpickler):
    def __init__(self, file: Any, stored: Callable[[str], bytes]) -> None:
        super().__init__(file)
        self._stored, self._read = stored, dict[str, Tensor]()

    def find_class(self, module: str, name: str) -> Any:
        if module == "torch" and name in _DTYPES:
            return _DTYPES[name]
        if (module, name) == ("torch._utils", "_rebuild_tensor_v2"):
            return _tensor
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module.partition(".")[0] in ("torch", "__torch__"):
            return _Part
        raise pickle.UnpicklingError(f"it names {module}.{name}")

    def persistent_load(self, pid: Any) -> Tensor:
        _, dtype, key, *_ = pid
        if key not in self._read:
            data = bytearray(self._stored(key))
            empty = torch.empty(0, dtype=dtype, device="cpu")
            self._read[key] = torch.frombuffer(data, dtype=dtype) if data else empty
        return self._read[key]
