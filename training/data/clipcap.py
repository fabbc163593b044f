"""CLIPCap's own file of embeddings, a pickle, which is read without running code from it.

A dictionary: ``clip_embedding``, a tensor [N, d] of float32 or float16, and ``captions``, a list of
dictionaries with ``caption`` and ``clip_embedding``, the number of its row. That is what the
original's `parse_coco.py` writes (Mokady et al. 2021, https://github.com/rmokady/CLIP_prefix_caption).
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from regionlm.errors import InputError
from regionlm.files import reading
from regionlm.pretrained.file_digests import file_digest
from training.data.example import check_text
from training.data.pairs import Pairs
from training.data.source_options import ClipCapPairsOptions


def clipcap_pairs(
    options: ClipCapPairsOptions, *, dim: int, limit: int | None = None, skip_bad: bool = False
) -> Pairs:
    """Read the pairs of such a file; texts keep their blanks.

    options: which file. dim: width of the backbone's embeddings. limit: use only the first so many
    captions. skip_bad: leave out captions that can't be used.

    Raises InputError: the file is missing, damaged, or of another form or width, its numbers are
    not finite, or the pickle names anything but tensors (nothing is run).
    """
    path = Path(options.path)
    found = _load(path)
    if not isinstance(found, dict) or not {"clip_embedding", "captions"} <= found.keys():
        raise InputError(f"{path}: expected a dictionary of clip_embedding and captions")
    embeddings, captions = found["clip_embedding"], found["captions"]
    _check_embeddings(path, embeddings, dim)
    if not isinstance(captions, list) or not captions:
        raise InputError(f"{path}: expected a list of captions, found {str(captions)[:40]}")
    texts, owners, numbers, bad = [], [], [], []
    for number, caption in enumerate(captions[:limit]):
        try:
            text, owner = _read(caption, len(embeddings))
        except InputError as error:
            if not skip_bad:
                raise InputError(f"{path}, caption {number}: {error}") from error
            bad.append(f"{path}, caption {number}: {error}")
            continue
        texts.append(text)
        owners.append(owner)
        numbers.append(number)
    return Pairs(
        embeddings, texts, owners, len(bad), bad[0] if bad else None, file_digest(path),
        str(path), numbers,
    )  # fmt: skip


def _read(caption: Any, rows: int) -> tuple[str, int]:
    if not isinstance(caption, dict):
        raise InputError(f"expected a dictionary, found {type(caption).__name__}")
    owner = caption.get("clip_embedding")
    if type(owner) is not int or not 0 <= owner < rows:
        raise InputError(f"clip_embedding: expected a row from 0 to {rows - 1}, found {owner!r}")
    return check_text(caption.get("caption")), owner


def _check_embeddings(path: str | Path, embeddings: Any, dim: int) -> None:
    if (
        not isinstance(embeddings, Tensor)
        or embeddings.ndim != 2
        or not embeddings.is_floating_point()
    ):
        raise InputError(f"{path}: clip_embedding: expected floating-point numbers [N, {dim}]")
    if embeddings.shape[1] != dim:
        raise InputError(
            f"{path}: expected embeddings of width {dim}, as the backbone makes them; found"
            f" {embeddings.shape[1]}: set start.backbone to the model they were made with"
        )
    if not torch.isfinite(embeddings).all():
        raise InputError(f"{path}: clip_embedding: expected finite numbers, found NaN or infinity")


def _load(path: Path) -> Any:
    with reading(path):
        stream = path.open("rb")
    try:
        with stream:
            return _TensorUnpickler(stream).load()
    except Exception as error:  # damaged pickles raise errors of a dozen types
        raise InputError(
            f"{path}: expected a pickle of tensors, lists, dictionaries, numbers and texts; found"
            f" something else ({' '.join(str(error).split())[:120]}); nothing it holds was run"
        ) from error


class _TensorUnpickler(pickle.Unpickler):
    """Creates tensors and plain values, and refuses the name of anything else."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _KNOWN[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it names {module}.{name}") from None


def _storage(data: bytes) -> Any:
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _bytes(text: str, encoding: str) -> bytes:
    """Bytes, as protocol 2 writes them."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes as {encoding}")
    return text.encode("latin1")


def _tensor(
    storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> Tensor:
    """Copy a view of a storage; torch itself would read past its end."""
    flat = torch.empty(0, dtype=storage.dtype).set_(storage)
    if min([offset, *size, *stride]) < 0 or len(size) != len(stride):
        raise ValueError("a tensor of negative size")
    last = offset + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if 0 not in size and last >= len(flat):
        raise ValueError("a tensor larger than its data")
    return flat.as_strided(tuple(size), tuple(stride), offset).clone()


_KNOWN: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("_codecs", "encode"): _bytes,
    ("collections", "OrderedDict"): OrderedDict,
}
