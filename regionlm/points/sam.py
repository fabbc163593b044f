"""Segment Anything: SAM, SAM 2 and their kin, as transformers reads them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from PIL import Image

from prefix_models.errors import first_line
from regionlm.devices import resolve_device
from regionlm.errors import InputError, ModelError
from regionlm.inputs.points import Point


class Sam:
    """Segments what points mark.

    Of the three masks that the model offers for a single point, the one that it expects to be best
    is taken; for several points it gives one, as its authors advise. The image that was asked
    about last is encoded once, where transformers allows it.

    Args:
        model: a mask generation model of transformers that takes points.
        processor: its own.
        name: for messages.
    """

    method = "sam"

    def __init__(self, model: Any, processor: Any, *, name: str = "SAM") -> None:
        self.model, self.processor = model.eval(), processor
        self.note = f"Segmented by {name}."
        self._lock = Lock()
        self._last: tuple[Image.Image, Any] | None = None

    @classmethod
    def from_pretrained(
        cls, source: str | Path, *, device: str | torch.device = "auto", offline: bool = False
    ) -> Sam:
        """Load a model.

        Args:
            source: a folder that transformers wrote, or a hub id such as facebook/sam-vit-base.
            device: ``"auto"`` takes CUDA, then MPS, then the CPU.
            offline: only use files on this machine.

        Raises:
            ModelError: none there, not a SAM, or damaged; a device that this machine lacks.
        """
        from transformers import AutoModelForMaskGeneration, AutoProcessor

        found = resolve_device(device)
        offline = offline or Path(source).is_dir()
        try:
            processor = AutoProcessor.from_pretrained(source, local_files_only=offline)
            model = AutoModelForMaskGeneration.from_pretrained(source, local_files_only=offline)
        except Exception as error:  # the hub's, the network's and transformers' have no common type
            raise ModelError(
                f"{source}: expected the folder or hub id of a SAM or SAM 2 for transformers, such"
                f" as facebook/sam-vit-base; it can't be read ({first_line(error)[:160]})"
            ) from error
        return cls(model.to(found), processor, name=Path(source).name)

    def mask(self, image: Image.Image, points: Sequence[Point]) -> np.ndarray:
        """What the points mark; arguments, result and errors as in `Segmenter`."""
        with self._lock, torch.inference_mode():
            masks, scores = self._segment(image, points)
        found: np.ndarray = masks[scores.argmax()]
        if not found.any():
            raise InputError("points: SAM finds nothing there; set them elsewhere, or add some")
        return found

    def _segment(
        self, image: Image.Image, points: Sequence[Point]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Masks bool ``[N, H, W]``, and how good the model expects each to be, ``[N]``."""
        given = self.processor(
            images=image,
            input_points=[[[[point.x, point.y] for point in points]]],
            input_labels=[[[int(point.is_inside) for point in points]]],
            return_tensors="pt",
        )
        sizes = {name: given.pop(name) for name in _SIZES if name in given}
        given = {name: self._moved(value) for name, value in given.items()}
        given |= self._encoded(image, given)
        said = self.model(**given, multimask_output=len(points) == 1)
        [masks] = self.processor.post_process_masks(said.pred_masks.float().cpu(), **sizes)
        return masks[0].numpy(), said.iou_scores[0, 0].float().cpu().numpy()

    def _moved(self, value: torch.Tensor) -> torch.Tensor:
        kind = self.model.dtype if value.is_floating_point() else value.dtype
        return value.to(self.model.device, kind)

    def _encoded(self, image: Image.Image, given: dict[str, torch.Tensor]) -> dict[str, Any]:
        """What the model has computed of the image; nothing where it has to see it every time."""
        from transformers import Sam2Model, SamModel

        if not isinstance(self.model, SamModel | Sam2Model):
            return {}
        pixels = given.pop("pixel_values")
        if self._last is None or self._last[0] is not image:
            self._last = (image, self.model.get_image_embeddings(pixels))
        return {"image_embeddings": self._last[1]}


_SIZES = ("original_sizes", "reshaped_input_sizes")
"""What processors give for `post_process_masks`; SAM has both, SAM 2 the first."""
