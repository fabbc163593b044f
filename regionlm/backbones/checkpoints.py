"""CLIP weight files: read without running code from them, fitted into a model strictly."""

from __future__ import annotations

import pickle
import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor, nn

from regionlm.errors import ModelError

_TEXT_PREFIXES = (
    "text_projection",
    "positional_embedding",
    "token_embedding",
    "transformer",
    "ln_final",
)
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")


def is_torchscript(path: Path) -> bool:
    """Whether a file is a TorchScript archive: how OpenAI published its CLIPs, and nobody else."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        return any(name.partition("/")[2].startswith("code/") for name in archive.namelist())


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a ``.safetensors`` file, a PyTorch state dict (bare, or a training checkpoint's
    ``state_dict``), or an OpenAI TorchScript archive.

    Raises:
        ModelError: the file is missing, truncated, no such file, or a pickle that holds more than
            tensors (which is never executed).
    """
    if not path.is_file():
        raise ModelError(f"weights {path}: no such file; give the path of a CLIP checkpoint")
    if path.stat().st_size == 0:
        raise ModelError(f"weights {path}: the file is empty; copy or download it again")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about old file formats: ours to mind, not the user's
            state = _read(path)
    except pickle.UnpicklingError as error:
        raise ModelError(
            f"weights {path}: expected tensors only, found a pickle that holds other objects or is"
            " damaged (it was not executed); use a .safetensors file or a plain state dict"
        ) from error
    except Exception as error:  # readers raise many types for broken files
        raise ModelError(
            f"weights {path}: expected safetensors or a PyTorch state dict, but the file is"
            f" truncated or of another kind ({type(error).__name__}); copy or download it again"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(
            f"weights {path}: expected a state dict of tensors, found {type(state).__name__}"
        )
    if state and all(key.startswith("module.") for key in state):  # saved from DataParallel
        state = {key[len("module.") :]: value for key, value in state.items()}
    return state


def _read(path: Path) -> dict:
    if path.suffix == ".safetensors":
        from safetensors.torch import load_file

        return load_file(path)
    if is_torchscript(path):
        state = torch.jit.load(str(path), map_location="cpu").state_dict()
        return {k: v for k, v in state.items() if k not in _OPENAI_EXTRAS}
    return torch.load(path, map_location="cpu", weights_only=True)


def load_weights(model: nn.Module, state: dict[str, Tensor], *, what: str, name: str) -> None:
    """Put a state dict into an open_clip model; every tensor must fit.

    Two older layouts are recognised: text weights at the top level of a model that keeps them under
    ``text.``, and a logit scale of another rank.

    Raises:
        ModelError: names, counts and the first misfit (``what``: the file; ``name``: the model).
    """
    expected = model.state_dict()
    if "text_projection" in state and "text_projection" not in expected:
        state = {("text." + k if k.startswith(_TEXT_PREFIXES) else k): v for k, v in state.items()}
    state = {k: v for k, v in state.items() if not k.endswith("embeddings.position_ids")}
    scale = state.get("logit_scale")
    if scale is not None and "logit_scale" in expected and scale.numel() == 1:
        state = {**state, "logit_scale": scale.reshape(expected["logit_scale"].shape)}
    lacking = [k for k in expected if k not in state]
    extra = [k for k in state if k not in expected]
    wrong = [k for k in expected if k in state and state[k].shape != expected[k].shape]
    if wrong:
        key = wrong[0]
        raise ModelError(
            f"weights {what}: of another size than {name}: {key} is {list(state[key].shape)} in"
            f" the file, {list(expected[key].shape)} in the model; name the model they are for"
        )
    if lacking or extra:
        problem = f"{lacking[0]} is missing" if lacking else f"{extra[0]} is unknown"
        raise ModelError(
            f"weights {what}: do not fit {name}: {problem} ({len(lacking)} missing, {len(extra)}"
            " unknown tensors); name the model they are for"
        )
    model.load_state_dict(state, strict=True)
