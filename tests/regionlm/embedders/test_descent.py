import numpy as np
import pytest
import torch

from regionlm.backbones import ClipViT
from regionlm.embedders import MaskInversion
from regionlm.relevance import Budget


class Recorded(MaskInversion):
    """Keeps each LET and its gradient, in the order of the steps."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.steps_taken = []

    def _objective(self, lets, *others):
        loss, gradient = super()._objective(lets, *others)
        self.steps_taken.append((lets.clone(), gradient.clone()))
        return loss, gradient


def adamw(value, gradients, lr, weight_decay):
    """AdamW as Loshchilov and Hutter have it: the values before each step, and the last."""
    mean, square = torch.zeros_like(value), torch.zeros_like(value)
    values = [value]
    for step, gradient in enumerate(gradients, start=1):
        mean = mean.lerp(gradient, 1 - 0.9)
        square = (square * 0.999).addcmul(gradient, gradient, value=1 - 0.999)
        spread = (square.sqrt() / (1 - 0.999**step) ** 0.5).add(1e-8)
        decayed = values[-1] * (1 - lr * weight_decay)
        values.append(decayed.addcdiv(mean, spread, value=-lr / (1 - 0.9**step)))
    return values


@pytest.mark.parametrize("lr, weight_decay, steps", [(0.1, 0.0, 1), (0.5, 0.1, 12), (2.0, 0.0, 7)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("mode", [torch.enable_grad, torch.no_grad, torch.inference_mode])
def test_every_chunk_of_masks_goes_adamws_way(
    tiny_clip, monkeypatch, mode, dtype, lr, weight_decay, steps
):
    monkeypatch.setattr(  # two masks a chunk
        Budget, "for_device", lambda device: Budget(chunk=16_000, piece=500, keep=9)
    )
    masks = np.random.default_rng(0).random((5, 24, 40)) < 0.3
    embedder = Recorded(
        ClipViT(tiny_clip().to(dtype)), steps=steps, lr=lr, weight_decay=weight_decay
    )
    with mode():
        found = embedder(torch.randn(3, 24, 40, dtype=dtype), masks)
    first = embedder.steps_taken[0][0]
    spans = torch.arange(5).split(len(first))
    assert len(spans) > 1, "one chunk only"
    for number, span in enumerate(spans):
        later = embedder.steps_taken[len(spans) + number * (steps - 1) :][: steps - 1]
        taken = [embedder.steps_taken[number], *later]
        start = found.image_embedding.repeat(len(span), 1)
        values = adamw(start, [gradient for _, gradient in taken], lr, weight_decay)
        for value, (let, _) in zip(values, taken, strict=False):
            assert torch.equal(value, let)
        assert torch.equal(values[-1], found.embeddings[span])
    assert found.embeddings.grad is None
