"""Devices by name: those that this machine has."""

import pytest
import torch

from regionlm.devices import resolve_device
from regionlm.errors import ModelError


def test_devices(monkeypatch):
    assert resolve_device("cpu") == torch.device("cpu")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert resolve_device("auto").type == "cpu"
    for name, message in [("cuda", "0 CUDA devices"), ("mps", "none"), ("abacus", "expected auto")]:
        with pytest.raises(ModelError, match=message):
            resolve_device(name)
    for name in ("xpu", "vulkan", "meta", "cpu:0", "cpu:3", "cuda:-1", "cuda:99999999999", "mps:1"):
        with pytest.raises(
            ModelError, match="expected auto, cpu, cuda, cuda:N or mps, found"
        ) as caught:
            resolve_device(name)
        assert name in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(ModelError, match="found 'meta'"):
        resolve_device(torch.device("meta"))
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("mps").type == resolve_device(torch.device("mps:0")).type == "mps"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("auto").type == "cuda" and resolve_device("cuda:1").index == 1
    with pytest.raises(ModelError, match="2 CUDA devices"):
        resolve_device("cuda:2")
