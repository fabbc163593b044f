"""A LLaVA's weights as a pickle, which transformers reads, too: tensors alone."""

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from prefix_models import PrefixModelError
from prefix_models.llava import load_llava
from tests.tiny_llava import tiny_llava


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A LLaVA in pytorch_model.bin alone."""
    model, processor = tiny_llava()
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    (tmp_path / "model.safetensors").unlink()
    torch.save(weights, tmp_path / "pytorch_model.bin")
    return tmp_path


def test_pickled_weights_are_read(folder: Path) -> None:
    wanted, found = tiny_llava()[0].state_dict(), load_llava(folder).lm.state_dict()
    assert found.keys() == wanted.keys()
    assert all(torch.equal(found[name], wanted[name]) for name in wanted)


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple:
        return os.mkdir, (str(self.marker),)


def test_a_pickle_with_code_is_refused_and_not_run(folder: Path, tmp_path: Path) -> None:
    torch.save({"a": Evil(tmp_path / "ran")}, folder / "pytorch_model.bin")
    with pytest.raises(PrefixModelError, match="cannot read the LLaVA") as caught:
        load_llava(folder)
    assert "\n" not in str(caught.value) and not (tmp_path / "ran").exists()


def test_pickled_weights_of_another_model_are_refused(folder: Path) -> None:
    weights = torch.load(folder / "pytorch_model.bin")
    torch.save(dict(list(weights.items())[:-1]), folder / "pytorch_model.bin")
    with pytest.raises(PrefixModelError, match=r"does not fit config\.json: missing"):
        load_llava(folder)


def test_without_weights(folder: Path) -> None:
    (folder / "pytorch_model.bin").unlink()
    with pytest.raises(PrefixModelError, match="cannot read the LLaVA") as caught:
        load_llava(folder)
    assert "\n" not in str(caught.value)
