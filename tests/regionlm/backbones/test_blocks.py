"""Activations are known by what they compute, not by what they are called."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from transformers.activations import ACT2FN

from regionlm.backbones.blocks import find_activation
from regionlm.errors import ModelError


class Named(nn.Module):
    """Anybody's module around a function."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def forward(self, x):
        return self.function(x)


class QuickGELU(Named):
    """The name says nothing."""


def quick(x):
    return x * torch.sigmoid(1.702 * x)


KNOWN = [
    (nn.GELU(), "gelu"),
    (nn.GELU(approximate="tanh"), "gelu_tanh"),
    (Named(F.gelu), "gelu"),
    (Named(quick), "quick_gelu"),
    (QuickGELU(F.gelu), "gelu"),
    (Named(lambda x: F.gelu(x, approximate="tanh")), "gelu_tanh"),
    (nn.Sequential(nn.Identity(), nn.GELU()), "gelu"),
    (ACT2FN["quick_gelu"], "quick_gelu"),
    (ACT2FN["gelu_new"], "gelu_tanh"),
    (ACT2FN["gelu_pytorch_tanh"], "gelu_tanh"),
    (nn.SiLU(), "silu"),
    (QuickGELU(F.silu), "silu"),
]


@pytest.mark.parametrize("module, kind", KNOWN, ids=lambda x: type(x).__name__)
def test_an_activation_is_found_by_trying(module, kind):
    for training in (True, False):
        assert find_activation(module.train(training), "here").kind == kind


UNKNOWN = [
    nn.ReLU(),
    nn.Mish(),
    QuickGELU(lambda x: x * torch.sigmoid(1.7 * x)),
    Named(lambda x: F.gelu(x) + 1e-4),
    Named(lambda x: F.gelu(x) * torch.nan),
    Named(lambda x: (F.gelu(x),)),
    Named(lambda x: None),
    Named(lambda x: F.gelu(x)[:5]),
    nn.Linear(3, 3),
    nn.GLU(),
    nn.PReLU(),
    nn.Module(),
]


@pytest.mark.parametrize("module", UNKNOWN, ids=lambda x: type(x).__name__)
def test_other_functions_are_refused(module):
    with pytest.raises(ModelError, match="here: expected GELU, QuickGELU or SiLU, found") as caught:
        find_activation(module, "here")
    assert type(module).__name__ in str(caught.value) and "\n" not in str(caught.value)


def test_hooks_do_not_see_the_trial():
    module = nn.GELU()
    module.register_forward_hook(lambda *parts: pytest.fail("called"))
    assert find_activation(module, "here").kind == "gelu"


def test_the_trial_does_not_depend_on_surrounding_modes():
    module = Named(quick)
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16), torch.device("meta"):
        assert find_activation(module, "here").kind == "quick_gelu"
    torch.set_default_dtype(torch.float64)
    try:
        assert find_activation(module, "here").kind == "quick_gelu"
    finally:
        torch.set_default_dtype(torch.float32)
