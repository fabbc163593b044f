"""Read CLIP weight files without running code from them, and load them into models strictly."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import torch
from torch import Tensor, nn

from prefix_models.torch_files import WRAPPINGS, bare_state_dict, foreign_names
from regionlm.backbones.open_clip_insides import in_layout_of
from regionlm.backbones.torchscript import is_torchscript, read_torchscript
from regionlm.errors import ModelError


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file, a PyTorch state dict, or a TorchScript archive.

    A state dict may be bare or a training checkpoint's, see ``bare_state_dict``.

    Raises:
        ModelError: the file is missing, truncated or of another kind, or a pickle that holds more
            than tensors (which is never executed).
    """
    if not path.is_file():
        raise ModelError(f"weights {path}: no such file; give the path of a CLIP checkpoint")
    if path.stat().st_size == 0:
        raise ModelError(f"weights {path}: the file is empty; copy or download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old file formats, which do not concern the user
            state = _read(path)
    except pickle.UnpicklingError as error:
        names = foreign_names(path)
        found = f"holds {names[0][:80]}" if names else "holds other objects or is damaged"
        raise ModelError(
            f"weights {path}: expected tensors only, found a pickle that {found} (it was not"
            " executed); use a .safetensors file or a plain state dict"
        ) from error
    except Exception as error:  # readers raise many types for damaged files
        raise ModelError(
            f"weights {path}: expected safetensors or a PyTorch state dict, but the file is"
            f" truncated or of another kind ({type(error).__name__}); copy or download it again"
        ) from error
    state = bare_state_dict(state)
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(
            f"weights {path}: expected a state dict of tensors, bare or under one of"
            f" {', '.join(WRAPPINGS)}; found {_described(state)}: save the state dict alone"
        )
    return state


def _described(state: object) -> str:
    if not isinstance(state, dict):
        return type(state).__name__
    keys = [str(key)[:40] for key, value in state.items() if not isinstance(value, Tensor)]
    return "a dict with other things under " + ", ".join(keys[:3])


def _read(path: Path) -> dict:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if is_torchscript(path):
        return read_torchscript(path)
    return torch.load(path, map_location="cpu", weights_only=True)


def load_weights(model: nn.Module, state: dict[str, Tensor], *, what: str, name: str) -> None:
    """Load a state dict, possibly of an older layout, into an open_clip model; all must fit.

    If the model was only a part of what was saved, such as a LightningModule with a loss, that part
    is loaded, provided there is only one.

    Args:
        model: an open_clip model.
        state: tensors by name.
        what: the file, for messages.
        name: the model, for messages.

    Raises:
        ModelError: a tensor is missing, unknown or of the wrong shape; or the state dict holds
            several such models.
    """
    expected = model.state_dict()
    state = in_layout_of(expected, _only_part(expected, state, what, name))
    lacking = [k for k in expected if k not in state]
    extra = [k for k in state if k not in expected]
    wrong = [k for k in expected if k in state and state[k].shape != expected[k].shape]
    if wrong:
        key = wrong[0]
        raise ModelError(
            f"weights {what}: differ in size from {name}: {key} is {list(state[key].shape)} in the"
            f" file, {list(expected[key].shape)} in the model; name the model they are for"
        )
    if lacking or extra:
        problem = f"{lacking[0]} is missing" if lacking else f"{extra[0]} is unknown"
        raise ModelError(
            f"weights {what}: do not fit {name}: {problem} ({len(lacking)} missing, {len(extra)}"
            " unknown tensors); name the model they are for"
        )
    model.load_state_dict(state, strict=True)


def _only_part(
    expected: dict[str, Tensor], state: dict[str, Tensor], what: str, name: str
) -> dict[str, Tensor]:
    """The tensors of the only part with exactly the model's names, or all if there is none."""
    if in_layout_of(expected, state).keys() >= expected.keys():
        return state
    probe = next(iter(expected))
    found = {}
    for key in state:
        above = key.removesuffix(probe)
        if above != key and above.endswith("."):
            part = {k.removeprefix(above): v for k, v in state.items() if k.startswith(above)}
            if in_layout_of(expected, part).keys() == expected.keys():
                found[above] = part
    if len(found) > 1:
        raise ModelError(
            f"weights {what}: expected one {name}, found several, under {', '.join(sorted(found))};"
            " save the state dict of one of them alone"
        )
    return next(iter(found.values()), state)
