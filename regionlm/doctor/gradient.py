"""Compare the explicit gradient of relevance maps with automatic differentiation."""

from __future__ import annotations

from dataclasses import fields, is_dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from regionlm.relevance.legrad_autograd import legrad_autograd
from regionlm.relevance.methods import make_relevance

if TYPE_CHECKING:
    from PIL import Image

    from regionlm.backbones.vision import EncodedImages, VisionBackbone

_EXACT, _HALF = 1e-3, 5e-2  # hundreds of times, and 4 times, the rounding error of sound models


def tolerance(backbone: VisionBackbone) -> float:
    """Return the largest difference that rounding can explain; more in half precision."""
    return _HALF if torch.finfo(backbone.dtype).bits < 32 else _EXACT


def gradient_difference(backbone: VisionBackbone, image: Image.Image) -> float:
    """Return the largest difference from autograd in map and gradient, relative to their maxima.

    It is measured at one token near the image's own embedding, for a random loss of its map.
    Autograd runs on the CPU in float64, so the difference is our error alone.
    """
    encoded = backbone.encode(backbone.preprocess(image, backbone.default_size)[None])
    token, slope = _problem(encoded)
    place: Any = {
        "device": encoded.embeddings.device,
        "dtype": torch.promote_types(encoded.embeddings.dtype, torch.float32),
    }
    method = make_relevance("legrad", backbone, encoded)
    found_map = method.forward(token.to(**place))
    found_gradient = method.backward(slope.to(**place))
    with torch.inference_mode(False), torch.enable_grad():
        token = token.double().requires_grad_()
        head, block_input = _on_cpu(encoded.head), _on_cpu(encoded.block_input[0])
        wanted_map = legrad_autograd(head, block_input, encoded.grid, token)
        loss = (wanted_map * slope.double()).sum()
        (wanted_gradient,) = torch.autograd.grad(loss, token)
    return max(_share(found_map, wanted_map.detach()), _share(found_gradient, wanted_gradient))


def _problem(encoded: EncodedImages) -> tuple[Tensor, Tensor]:
    """Return a unit token [1, d] and a gradient at its map [1, gh, gw], float32 on the CPU."""
    draw = torch.Generator().manual_seed(0)
    start = F.normalize(encoded.embeddings[:1].cpu().float(), dim=1)
    # Not the embedding itself, where the gradient of the cosine is zero.
    away = F.normalize(torch.randn(start.shape, generator=draw, device="cpu"), dim=1)
    slope = torch.randn(1, *encoded.grid, generator=draw, device="cpu")
    return F.normalize(start + away, dim=1), slope


def _on_cpu(part: Any) -> Any:
    """Copy all weights in a dataclass to the CPU in float64."""
    if isinstance(part, Tensor):
        return part.detach().to("cpu", torch.float64)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{f.name: _on_cpu(getattr(part, f.name)) for f in fields(part)})
    return tuple(map(_on_cpu, part)) if isinstance(part, tuple | list) else part


def _share(found: Tensor, wanted: Tensor) -> float:
    """Return the largest difference relative to the largest value; NaN if either has a NaN."""
    return float((found.cpu().double() - wanted).abs().max() / wanted.abs().max())
