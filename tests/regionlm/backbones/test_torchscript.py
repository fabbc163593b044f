"""Archives that PyTorch wrote, and bad ones; see test_loading for a whole model."""

import io
import pickle
import zipfile

import pytest
import torch

from regionlm.backbones.torchscript import is_torchscript, read_torchscript


class Inner(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.randn(3, 5).T)  # not contiguous
        self.register_buffer("count", torch.arange(4))
        self.register_buffer("empty", torch.empty(0, 2))
        self.register_buffer("flags", torch.tensor([True, False]))


class Outer(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = Inner()
        self.layers = torch.nn.Sequential(torch.nn.Linear(2, 2).half(), torch.nn.Linear(2, 2))
        table = torch.randn(6, 4, dtype=torch.float64)
        self.whole, self.part = torch.nn.Parameter(table), torch.nn.Parameter(table[2:4, 1:])
        self.tied = self.layers[1].weight
        self.register_buffer("low", torch.randn(3).bfloat16())

    def forward(self, x):
        return x


def write(path, module):
    """PyTorch's own writer, which is deprecated: called in nobody's name."""
    names = {"__name__": "somebody", "torch": torch, "module": module, "path": str(path)}
    exec("torch.jit.trace(module, torch.zeros(1)).save(path)", names)


def test_every_tensor_under_its_name(tmp_path):
    module = Outer()
    write(tmp_path / "a.pt", module)
    assert is_torchscript(tmp_path / "a.pt")
    found, wanted = read_torchscript(tmp_path / "a.pt"), module.state_dict()
    assert found.keys() == wanted.keys()
    for name, value in wanted.items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype, name
        assert not found[name].requires_grad


def test_other_files_are_no_archives(tmp_path):
    torch.save({"a": torch.zeros(1)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(b"nothing")
    assert not is_torchscript(tmp_path / "a.pt") and not is_torchscript(tmp_path / "b.pt")


class Evil:
    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))


def test_code_in_an_archive_is_not_run(tmp_path):
    data = io.BytesIO()
    pickle.Pickler(data, 2).dump(Evil(tmp_path / "ran"))
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", data.getvalue())
        archive.writestr("a/code/__torch__.py", "")
    with pytest.raises(pickle.UnpicklingError, match="open"):
        read_torchscript(tmp_path / "a.pt")
    assert not (tmp_path / "ran").exists()


def test_objects_of_pytorch_are_not_run_either(tmp_path):
    data = b"\x80\x02ctorch\nsave\nX\x01\x00\x00\x00aX\x03\x00\x00\x00ran\x86R."
    with zipfile.ZipFile(tmp_path / "a.pt", "w") as archive:
        archive.writestr("a/data.pkl", data)
    assert read_torchscript(tmp_path / "a.pt") == {}
    assert not (tmp_path / "ran").exists()
