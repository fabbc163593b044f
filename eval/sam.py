"""Masks for boxes, drawn by Segment Anything (Kirillov et al. 2023) through transformers."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import SamConfig, SamModel, SamProcessor
from transformers.utils import logging as transformers_logging

from prefix_models.errors import PrefixModelError
from prefix_models.lm.strict_loading import load_strictly
from regionlm.errors import ModelError

BOXES_AT_ONCE = 32  # about 32 MB each in its mask decoder
_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
_EXPECTED = (
    "a folder that transformers' SamModel and SamProcessor were saved to, or a hub id such as"
    " facebook/sam-vit-base"
)


class BoxSam:
    """Draw one mask for each box.

    A box leaves little doubt about what is meant. So SAM predicts a single mask
    (``multimask_output=False``), as its authors do for boxes, instead of the best of three.

    Args:
        model: used unchanged.
        processor: its processor, of the same input size.
        name: name in error messages.

    Raises:
        ModelError: processor and model disagree on the input size.
    """

    def __init__(self, model: SamModel, processor: SamProcessor, name: str = "SAM") -> None:
        self.model, self.processor, self.name = model, processor, name
        wanted, sizes = model.config.vision_config.image_size, _made_sizes(processor)
        if sizes != {wanted}:
            raise ModelError(
                f"{name}: the model reads images of {wanted} pixels, its processor makes"
                f" {' and '.join(map(str, sorted(sizes)))}; the files are of different models"
            )

    @classmethod
    def load(cls, name: str, device: torch.device, *, offline: bool = False) -> BoxSam:
        """Load a model and its processor, in float32.

        Args:
            name: folder or hub id.
            device: where the model runs.
            offline: only use files on this machine.

        Raises:
            ModelError: unknown name; missing, damaged or mismatched files; another kind of model.
        """
        if not name or not (Path(name).is_dir() or _HUB_ID.fullmatch(name)):
            raise ModelError(f"unknown SAM {name!r}: expected {_EXPECTED}")
        local = offline or Path(name).is_dir()
        try:
            with _silence():
                model, processor = _read(name, local)
        except ModelError:
            raise
        except PrefixModelError as error:
            raise ModelError(f"{error}; expected {_EXPECTED}") from error
        except Exception as error:  # the hub's and the files' have no common type
            reason = (str(error).strip().splitlines() or [""])[0]
            raise ModelError(
                f"cannot read {_noun(name, local)} ({type(error).__name__}: {reason}); expected"
                f" {_EXPECTED}"
            ) from error
        return cls(model.to(device), processor, name)

    @torch.inference_mode()
    def __call__(self, image: Image.Image, boxes: Sequence[Sequence[float]]) -> np.ndarray:
        """Return masks, bool ``[M, H, W]`` in the image's pixels; a mask may be empty.

        Args:
            image: RGB image.
            boxes: M boxes ``(left, top, right, bottom)`` in pixels, right and bottom exclusive.

        Raises:
            ModelError: the model's output is not finite.
        """
        corners = [[float(value) for value in box] for box in boxes]
        inputs = self.processor(images=image, input_boxes=[corners], return_tensors="pt")
        seen = self.model.get_image_embeddings(inputs["pixel_values"].to(self.model.device))
        prompts = inputs["input_boxes"].to(seen)  # float64 is unknown to some devices
        drawn = [self._draw(seen, part, inputs) for part in prompts.split(BOXES_AT_ONCE, dim=1)]
        return torch.cat(drawn).numpy()

    def _draw(self, seen: Tensor, boxes: Tensor, inputs: Any) -> Tensor:
        """Return masks, bool ``[m, H, W]`` on the CPU, for boxes ``[1, m, 4]`` of one image."""
        found = self.model(image_embeddings=seen, input_boxes=boxes, multimask_output=False)
        if not torch.isfinite(found.pred_masks).all():
            raise ModelError(f"{self.name}: its masks hold numbers that are not finite; damaged?")
        (masks,) = self.processor.post_process_masks(
            found.pred_masks, inputs["original_sizes"], inputs["reshaped_input_sizes"]
        )
        return masks[:, 0].cpu()


def _read(name: str, local: bool) -> tuple[SamModel, SamProcessor]:
    kind = SamConfig.get_config_dict(name, local_files_only=local)[0].get("model_type")
    if kind != "sam":
        raise ModelError(
            f"{name}: expected a config.json of model type sam, found {kind or 'none'}; give"
            f" {_EXPECTED}"
        )
    noun = _noun(name, local)
    model = load_strictly(
        SamModel, name, noun, f"the weights file of {noun}", torch.float32, local_files_only=local
    )
    return model.eval(), SamProcessor.from_pretrained(name, local_files_only=local)


def _noun(name: str, local: bool) -> str:
    return f"SAM {name!r} {'on this machine' if local else 'from the hub'}"


def _made_sizes(processor: SamProcessor) -> set[int]:
    """Return all sides, in pixels, that a processor gives a square image and the box around it.

    Those of the padded image, of the part without padding, and of the box.
    """
    side = 8
    made = processor(
        images=Image.new("RGB", (side, side)),
        input_boxes=[[[0.0, 0.0, float(side), float(side)]]],
        return_tensors="pt",
    )
    sides = [*made["pixel_values"].shape[-2:], *made["reshaped_input_sizes"][0].tolist()]
    return {round(found) for found in (*sides, *made["input_boxes"][0, 0, 2:].tolist())}


@contextmanager
def _silence() -> Iterator[None]:
    """Keep transformers' reports and progress bars off the terminal; our errors are one line."""
    level, bars = (
        transformers_logging.get_verbosity(),
        transformers_logging.is_progress_bar_enabled(),
    )
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
        if bars:
            transformers_logging.enable_progress_bar()
