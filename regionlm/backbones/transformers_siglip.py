"""Load a folder of transformers' ``SiglipModel`` or ``Siglip2Model``."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from prefix_models.errors import first_line
from prefix_models.folders import CONFIG
from regionlm.backbones.clip_vit import ClipViT
from regionlm.backbones.hf_siglip import SIGLIP, SIGLIP2, SiglipAsClip
from regionlm.errors import ModelError

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "tokenizer.model")
_MEAN = _STD = (0.5, 0.5, 0.5)
#: Files with the preprocessing of images: at the top level, or under the key.
_PREPROCESSING = {"preprocessor_config.json": None, "processor_config.json": "image_processor"}


class SiglipTokenizer:
    """A tokenizer of transformers, cut and padded to the context, as SigLIP was trained.

    Args:
        tokenizer: of transformers.
        context: tokens per text.
    """

    def __init__(self, tokenizer: Any, context: int) -> None:
        self.tokenizer, self.context = tokenizer, context

    def __call__(self, texts: list[str]) -> Tensor:
        """Token ids, int64 ``[T, context]``."""
        found = self.tokenizer(
            texts,
            padding="max_length",
            truncation=True,
            max_length=self.context,
            return_tensors="pt",
        )
        return found["input_ids"]


def is_transformers_siglip(folder: Path) -> bool:
    """Whether a folder's config.json is a ``SiglipModel``'s or a ``Siglip2Model``'s."""
    try:
        config = json.loads((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and config.get("model_type") in (SIGLIP, SIGLIP2)


def load_transformers_siglip(folder: Path) -> ClipViT:
    """Read the model of a folder that transformers' ``save_pretrained`` wrote.

    Args:
        folder: has ``config.json``, weights, the tokenizer, and ``preprocessor_config.json`` or
            ``processor_config.json`` if inputs are not normalised as SigLIP's.

    Raises:
        ModelError: a file is missing, damaged or another model's.
    """
    tokenizer = _tokenizer(folder)  # quickly read, before the weights
    model = _model(folder)
    context = int(model.config.text_config.max_position_embeddings)
    preprocess = _preprocessing(folder)
    return ClipViT(
        SiglipAsClip(model.eval()),
        tokenizer=_checked(SiglipTokenizer(tokenizer, context), folder),
        mean=preprocess.get("image_mean", _MEAN),
        std=preprocess.get("image_std", _STD),
        name=folder.absolute().name,
    )


def save_transformers_siglip(backbone: ClipViT, folder: Path) -> None:
    """Write such a backbone as it was read: for `load_transformers_siglip` and transformers.

    Raises:
        OSError: the folder can't be written.
    """
    model: Any = backbone.model
    tokenizer: Any = backbone.tokenizer
    model.siglip.save_pretrained(folder)
    tokenizer.tokenizer.save_pretrained(folder)
    settings = {"image_mean": list(backbone.mean), "image_std": list(backbone.std)}
    text = json.dumps(settings, indent=2) + "\n"
    (folder / next(iter(_PREPROCESSING))).write_text(text, encoding="utf-8")


def _model(folder: Path) -> Any:
    from transformers import AutoModel

    from prefix_models.lm.strict_loading import no_progress_bars

    try:
        with no_progress_bars():
            model, report = AutoModel.from_pretrained(
                folder,
                local_files_only=True,
                dtype=torch.float32,
                output_loading_info=True,
                ignore_mismatched_sizes=True,  # the report names them; they are refused below
            )
    except Exception as error:  # damaged and missing files cause many types of errors
        raise ModelError(f"model folder {folder}: can't be read ({first_line(error)})") from error
    for kind in ("missing_keys", "mismatched_keys"):
        names = sorted(one if isinstance(one, str) else one[0] for one in report.get(kind, ()))
        if names:
            raise ModelError(
                f"model folder {folder}: its weights do not fit {CONFIG}: {names[0]} is missing or"
                f" of another size ({len(names)} tensors); copy both again"
            )
    return model


def _tokenizer(folder: Path) -> Any:
    from transformers import AutoTokenizer, PreTrainedTokenizerFast

    there = [name for name in _TOKENIZER_FILES if (folder / name).is_file()]
    if not there:
        raise ModelError(
            f"model folder {folder}: lacks its tokenizer; copy {_TOKENIZER_FILES[0]} there"
        )
    try:
        return AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except Exception as error:  # transformers and the Rust code raise many types
        # transformers 5.0 without sentencepiece knows no class for SigLIP's, but needs none.
        if _TOKENIZER_FILES[0] in there:
            with suppress(Exception):
                return PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
        raise _unusable(folder, error) from error


def _checked(tokenizer: SiglipTokenizer, folder: Path) -> SiglipTokenizer:
    try:
        tokenizer([""])
    except Exception as error:  # such as transformers' ValueError if there is no padding token
        raise _unusable(folder, error) from error
    return tokenizer


def _unusable(folder: Path, error: Exception) -> ModelError:
    return ModelError(
        f"model folder {folder}: its tokenizer can't be used ({first_line(error)}); copy"
        f" {_TOKENIZER_FILES[0]} and tokenizer_config.json of the published model there"
    )


def _preprocessing(folder: Path) -> dict[str, Any]:
    for name, key in _PREPROCESSING.items():
        path = folder / name
        if path.is_file():
            try:
                found = json.loads(path.read_text(encoding="utf-8"))
                return dict(found if key is None else found[key])
            except (OSError, ValueError, TypeError, KeyError) as error:
                raise ModelError(f"{path}: expected JSON with image_mean and image_std") from error
    return {}
