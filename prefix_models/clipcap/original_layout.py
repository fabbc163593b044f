"""Names, shapes and settings of mappers in the original ClipCap code.

They describe the state dicts of github.com/rmokady/CLIP_prefix_caption: train.py writes "mlp" and
"transformer" mappers, predict.py also knows "linear" ones.
"""

import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from torch import Tensor

from prefix_models.errors import PrefixModelError

_MLP = {
    "model.0.weight": "inner.weight",
    "model.0.bias": "inner.bias",
    "model.2.weight": "outer.weight",
    "model.2.bias": "outer.bias",
}
_LINEAR = {"weight": "map.weight", "bias": "map.bias"}
_TRANSFORMER = {
    "prefix_const": "constants",
    "linear.weight": "tokens.weight",
    "linear.bias": "tokens.bias",
}
_LAYER = {
    "norm1.weight": "attention_norm.weight",
    "norm1.bias": "attention_norm.bias",
    "attn.to_queries.weight": "queries.weight",
    "attn.to_keys_values.weight": "keys_values.weight",
    "attn.project.weight": "attended.weight",
    "attn.project.bias": "attended.bias",
    "norm2.weight": "feed_norm.weight",
    "norm2.bias": "feed_norm.bias",
    "mlp.fc1.weight": "inner.weight",
    "mlp.fc1.bias": "inner.bias",
    "mlp.fc2.weight": "outer.weight",
    "mlp.fc2.bias": "outer.bias",
}
_LAYER_NUMBER = re.compile(r"(?:^|\.)(?:layers|h)\.(\d+)\.")

KINDS = ("linear", "mlp", "transformer")


def find_kind(names: Collection[str]) -> str:
    """Return which of KINDS a state dict's names belong to; "mlp" if they belong to none."""
    if any(name.startswith(("clip_project.transformer.", "clip_project.prefix")) for name in names):
        return "transformer"
    return "linear" if "clip_project.weight" in names else "mlp"


def count_layers(names: Iterable[str]) -> int:
    """Return the number of layers in names like layers.3.inner.bias or h.3.ln_1.bias."""
    return len({found[1] for found in map(_LAYER_NUMBER.search, names) if found})


def mapper_names(kind: str, layers: int) -> dict[str, str]:
    """Return {original name: our name} for every weight of a mapper of one of KINDS.

    `layers` is used only for a transformer, which has at least one.
    """
    names = dict({"linear": _LINEAR, "mlp": _MLP, "transformer": _TRANSFORMER}[kind])
    for i in range(max(layers, 1) if kind == "transformer" else 0):
        names |= {
            f"transformer.layers.{i}.{theirs}": f"layers.{i}.{ours}"
            for theirs, ours in _LAYER.items()
        }
    return {f"clip_project.{theirs}": ours for theirs, ours in names.items()}


def mapper_settings(
    kind: str, weights: Mapping[str, Tensor], hidden: int, origin: str
) -> dict[str, Any]:
    """Return the ClipCapConfig settings that follow from a mapper's weights under our names.

    Args:
        kind: one of KINDS.
        weights: all weights of the mapper.
        hidden: width of the language model.
        origin: the file, for messages.

    Raises:
        PrefixModelError: the weights have the wrong dimensions, or do not fit that width.
    """
    for name, tensor in weights.items():
        dimensions = 1 if name.endswith("bias") or "_norm." in name else 2
        if tensor.dim() != dimensions:
            raise PrefixModelError(
                f"{origin}: the mapper's {name} has shape {list(tensor.shape)}, expected "
                f"{dimensions} dimension{'s'[: dimensions - 1]}"
            )
    if kind == "transformer":
        constants, first = weights["constants"], weights["tokens.weight"]
        if constants.shape[1] != hidden:
            raise PrefixModelError(
                f"{origin}: the mapper makes vectors of width {constants.shape[1]}, GPT-2's is "
                f"{hidden}"
            )
        return {
            "embedding_dim": first.shape[1],
            "prefix_length": len(constants),
            "mapper_width": len(weights["layers.0.inner.weight"]),
            "mapper_layers": count_layers(weights),
            "clip_length": _vectors(first, hidden, origin),
        }
    first = weights["map.weight" if kind == "linear" else "inner.weight"]
    last = weights["map.weight" if kind == "linear" else "outer.weight"]
    sizes = {"embedding_dim": first.shape[1], "prefix_length": _vectors(last, hidden, origin)}
    return sizes if kind == "linear" else {**sizes, "mapper_width": len(first)}


def _vectors(weight: Tensor, hidden: int, origin: str) -> int:
    """Return the number of vectors of the language model's width that a linear map makes."""
    outputs = len(weight)
    if outputs % hidden or not outputs:
        raise PrefixModelError(
            f"{origin}: the mapper's {outputs} outputs are not a multiple of GPT-2's width {hidden}"
        )
    return outputs // hidden
