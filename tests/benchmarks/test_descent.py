"""The benchmark of other ways down runs; as it is, it goes MaskInversion's way."""

import sys
from pathlib import Path

import pytest
import torch

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def descent(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import descent

    return descent


def test_variants(descent):
    from regionlm import ClipViT, MaskInversion

    backbone = ClipViT(descent.build_model("tiny"))
    torch.manual_seed(1)  # of an image on which the variant that stops does so in seven steps
    pixels = torch.randn(3, 64, 64)
    masks = torch.zeros(2, 64, 64, dtype=torch.bool)
    masks[0, :20, :30] = masks[1, 30:, 10:] = True
    whole = MaskInversion(backbone, steps=7)(pixels, masks)
    found = {
        name: embedder(pixels, masks)
        for name, steps, embedder in descent.variants(backbone, 0.1)
        if steps == 7
    }
    assert set(found) == set(descent.VARIANTS)
    torch.testing.assert_close(found["as it is"].embeddings, whole.embeddings)
    torch.testing.assert_close(found["as it is"].loss, whole.loss)
    for name, one in found.items():
        assert torch.isfinite(one.dice).all()
        assert (name == "as it is") == one.embeddings.allclose(whole.embeddings)
    stopped = descent.Variant(backbone, steps=50, stop=0.05)
    stopped(pixels, masks)
    assert (stopped.taken < 50).all()


def test_tables(descent, monkeypatch, capsys):
    small = ["--model", "tiny", "--size", "64", "--masks", "2", "--scenes", "1"]
    monkeypatch.setattr(sys, "argv", ["descent.py", *small])
    monkeypatch.setattr(descent, "STEPS", (1, 2))
    descent.main()
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 * (1 + len(descent.VARIANTS))
