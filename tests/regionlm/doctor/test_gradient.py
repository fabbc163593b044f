"""The check of the explicit gradient passes sound models and sees wrong ones."""

import pytest
import torch
from PIL import Image

import regionlm.doctor.gradient as gradient
from regionlm.backbones import ClipViT
from regionlm.doctor.gradient import gradient_difference, tolerance
from tests.regionlm.tiny_timm import EVA02, VITAMIN, tiny_timm

SIGLIP = {"name": "regionlm_tiny_siglip", "pool": "map", "proj": "none"}
_PICTURE = Image.effect_noise((40, 30), 80)


@pytest.mark.parametrize("pool", ["tok", "avg"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_sound_models_are_within_the_tolerance(tiny_clip, pool, dtype) -> None:
    backbone = ClipViT(tiny_clip(pool).to(dtype))
    assert gradient_difference(backbone, _PICTURE) < tolerance(backbone)


@pytest.mark.parametrize("options", [EVA02, VITAMIN, SIGLIP], ids=["EVA-02", "ViTamin", "SigLIP"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
def test_other_architectures_are_within_the_tolerance(options, dtype) -> None:
    backbone = ClipViT(tiny_timm(**{"name": "regionlm_tiny_eva", **options}).to(dtype))
    assert gradient_difference(backbone, _PICTURE) < tolerance(backbone)


def test_float64_agrees_to_the_last_digits(tiny_clip) -> None:
    assert gradient_difference(ClipViT(tiny_clip().double()), _PICTURE) < 1e-12


def test_a_wrong_map_and_a_wrong_gradient_are_seen(tiny_clip, monkeypatch) -> None:
    backbone = ClipViT(tiny_clip())
    right = gradient.make_relevance

    class Wrong:
        def __init__(self, part, *arguments, **options):
            self.right, self.part = right(*arguments, **options), part

        def forward(self, tokens):
            return self.right.forward(tokens) * (1.01 if self.part == "forward" else 1)

        def backward(self, dmaps):
            return self.right.backward(dmaps) * (1.01 if self.part == "backward" else 1)

    for part in ("forward", "backward"):
        monkeypatch.setattr(
            gradient, "make_relevance", lambda *a, part=part, **o: Wrong(part, *a, **o)
        )
        found = gradient_difference(backbone, _PICTURE)
        assert found == pytest.approx(0.01, rel=0.01) and found > tolerance(backbone)


def test_nothing_of_the_model_is_changed(tiny_clip) -> None:
    model = tiny_clip()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    with torch.inference_mode():
        gradient_difference(ClipViT(model), _PICTURE)
    assert all(value.equal(before[name]) for name, value in model.state_dict().items())
    assert all(one.grad is None and one.requires_grad for one in model.parameters())
