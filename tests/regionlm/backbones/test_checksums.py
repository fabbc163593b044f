"""What is computed from weights is computed again whenever they change, and however little."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import CLIPVisionConfig, CLIPVisionModel

from regionlm.backbones.checksums import checksum
from regionlm.backbones.hf_clip_vit import HfClipViT

DTYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64]
SHAPES = st.sampled_from([(1,), (7, 3), (50, 41), (2039,), (3, 2039), (257, 33)])


@given(SHAPES, st.sampled_from(DTYPES), st.randoms(use_true_random=False))
def test_one_number_changed_by_one_bit(shape, dtype, random):
    tensor = torch.arange(math.prod(shape)).reshape(shape).to(dtype)
    before = checksum(tensor)
    assert checksum(tensor.clone()) == before
    index = random.randrange(tensor.numel())
    integers = {2: torch.int16, 4: torch.int32, 8: torch.int64}[tensor.element_size()]
    tensor.view(-1).view(integers)[index] ^= 1 << random.randrange(15)
    assert checksum(tensor) != before


@given(SHAPES, st.integers(0, 2**31))
def test_numbers_that_change_places(shape, seed):
    tensor = torch.rand(shape, generator=torch.Generator().manual_seed(seed))
    before = checksum(tensor)
    for dim, size in enumerate(shape):
        if size > 1:
            assert checksum(tensor.flip(dim)) != before
            assert checksum(tensor.roll(1, dim)) != before


def test_any_layout():
    tensor = torch.randn(20, 30)
    assert checksum(tensor.T) == checksum(tensor.T.contiguous()) != checksum(tensor)
    assert checksum(tensor.view(-1)[3:]) == checksum(tensor.view(-1)[3:].clone())
    parameter = torch.nn.Parameter(tensor)
    assert checksum(parameter) == checksum(tensor) and parameter.grad_fn is None


def test_nan_is_a_number_like_any():
    tensor = torch.full((9,), torch.nan)
    assert checksum(tensor) == checksum(tensor.clone()) != checksum(torch.zeros(9))


def _backbone():
    config = CLIPVisionConfig(
        hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        image_size=32, patch_size=8,
    )  # fmt: skip
    return HfClipViT(CLIPVisionModel(config).eval(), mean=(0.5,) * 3, std=(0.5,) * 3)


def _noted(found, tensor):
    calls = []
    found.derived("test", [tensor], lambda: calls.append(1))
    return len(calls)


CHANGES = {
    "in place": lambda w: w.mul_(2),
    "by one bit": lambda w: w.view(-1)[7:8].copy_(torch.nextafter(w.view(-1)[7], w.new_tensor(9))),
    "data": lambda w: w.data.mul_(1.02),
    "data copied": lambda w: w.data.copy_(torch.randn_like(w)),
    "rows of data change places": lambda w: w.data.copy_(w.data.flip(0)),
    "columns of data change places": lambda w: w.data.copy_(w.data.roll(1, 1)),
    "data replaced": lambda w: setattr(w, "data", torch.randn_like(w)),
    "another dtype": lambda w: setattr(w, "data", w.data.double()),
    "another shape": lambda w: setattr(w, "data", w.data.reshape(-1)),
    "through numpy": lambda w: w.detach().numpy().__setitem__((3, 4), 9.0),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_derived_values_are_made_again_only_after_a_change(change):
    found = _backbone()
    weight = torch.nn.Parameter(torch.randn(64, 48))
    assert [_noted(found, weight) for _ in range(3)] == [1, 0, 0]
    with torch.no_grad():
        change(weight)
    assert [_noted(found, weight) for _ in range(2)] == [1, 0]


def test_derived_values_of_inference_tensors():
    found = _backbone()
    with torch.inference_mode():
        weight = torch.randn(8, 8)
        assert [_noted(found, weight) for _ in range(2)] == [1, 0]
        weight[0, 0] = 3
    assert [_noted(found, weight) for _ in range(2)] == [1, 0]


def test_parts_made_in_inference_mode_take_part_in_a_later_gradient():
    with torch.inference_mode():
        found = _backbone()
    found.encode(torch.randn(1, 3, 32, 32))
    token = torch.randn(2, 32, requires_grad=True)
    head = found.head()
    assert not head.proj.is_inference()
    (token @ head.proj.T).sum().backward()
    assert token.grad is not None


def test_a_tensor_without_memory_never_changes():
    assert checksum(torch.empty(3, device="meta")) == checksum(torch.empty(5, device="meta")) == 0
