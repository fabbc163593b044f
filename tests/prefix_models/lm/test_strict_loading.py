"""What transformers reports of weights, and what a hub id stands for: loud when that changes."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load, save_file
from transformers import AutoModelForCausalLM, LlamaForCausalLM

from prefix_models import PrefixModelError
from prefix_models.lm.strict_loading import load_strictly
from tests.prefix_models.kinds import causal_lm

ROOT = Path(__file__).parents[3]
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    causal_lm("llama", 20).save_pretrained(tmp_path / "lm")
    return tmp_path / "lm"


def read(folder: Path, **options: Any) -> Any:
    return load_strictly(AutoModelForCausalLM, folder, "it", "weights", None, **options)


def test_what_was_saved_is_read(folder: Path) -> None:
    lm = read(folder)
    assert isinstance(lm, LlamaForCausalLM)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda weights: weights.pop("model.norm.weight"), r"missing model\.norm\.weight"),
        (lambda weights: weights.update(odd=torch.ones(1)), "unexpected odd"),
        (
            lambda weights: weights.update({"model.norm.weight": torch.ones(3)}),
            r"model\.norm\.weight has shape \[3\], config\.json needs \[16\]",
        ),
    ],
    ids=["missing", "unexpected", "misshapen"],
)
def test_weights_that_do_not_fit_are_named(folder: Path, change: Any, message: str) -> None:
    file = folder / "model.safetensors"
    weights = load(file.read_bytes())
    change(weights)
    save_file(weights, file, {"format": "pt"})
    with pytest.raises(PrefixModelError, match=message) as error:
        read(folder)
    assert "\n" not in str(error.value)


def test_a_hub_id_stands_for_the_commit_in_the_cache(tmp_path: Path) -> None:
    repository = tmp_path / "models--somebody--tiny"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs/main").write_text(COMMIT)
    (repository / "snapshots" / COMMIT).mkdir(parents=True)
    (repository / "snapshots" / COMMIT / "config.json").write_text("{}")
    code = (
        "from prefix_models.lm.strict_loading import revision_of\n"
        "print(revision_of('somebody/tiny'), revision_of('somebody/else'))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_CACHE": str(tmp_path), "PYTHONPATH": str(ROOT)},
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.split() == [COMMIT, "None"]
