"""A mapper's weights in a safetensors file: write, read strictly, compare."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from prefix_models.errors import PrefixModelError, refusing
from prefix_models.lm.folder import require_file
from prefix_models.lm.strict_loading import some


def save_mapper(mapper: nn.Module, path: Path) -> None:
    """Write a mapper's weights."""
    weights = {name: value.contiguous() for name, value in mapper.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt"})


def load_mapper(mapper: nn.Module, path: Path) -> None:
    """Load a mapper's weights from a safetensors file; names and shapes must match exactly."""
    require_file(path)
    with refusing(
        PrefixModelError, f"{path} is damaged or not a safetensors file", (SafetensorError, OSError)
    ):
        weights = load_file(path)
    check_weights(mapper, weights, str(path))
    mapper.load_state_dict(weights, strict=True, assign=True)


def check_same_weights(read: nn.Module, written: nn.Module, path: Path) -> None:
    """Raise PrefixModelError unless a mapper's weights were read back exactly."""
    kept = read.state_dict()
    for name, value in written.state_dict().items():
        if value.dtype != kept[name].dtype or not torch.equal(value.cpu(), kept[name]):
            raise PrefixModelError(f"{path}: {name} was not written correctly")


def check_weights(module: nn.Module, weights: dict[str, Tensor], origin: str) -> None:
    """Raise PrefixModelError unless `weights` has exactly the module's names and shapes."""
    expected = module.state_dict()
    missing, unexpected = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or unexpected:
        raise PrefixModelError(
            f"{origin} does not fit the model: missing {some(missing)}, "
            f"unexpected {some(unexpected)}"
        )
    for name, tensor in expected.items():
        if tensor.shape != weights[name].shape:
            raise PrefixModelError(
                f"{origin}: {name} has shape {list(weights[name].shape)}, the model's settings "
                f"need {list(tensor.shape)}"
            )
