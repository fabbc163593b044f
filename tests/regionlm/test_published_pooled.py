"""Maps of attention-pooled models equal those that the authors' LeGrad gave for them.

`benchmarks/published_pooled.py --write-references` made the files, with the authors' packages.
"""

import importlib
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).parent / "reference" / "pooled"
BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.parametrize("model", ["tiny-siglip", "tiny-coca"])
@pytest.mark.parametrize("layers", [1, 3])
def test_maps_are_those_of_the_authors_code(model, layers, monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    ours = importlib.import_module("published_pooled").our_maps(model, 64, layers)
    assert set(ours) == {"none", "empty text"} if "siglip" in model else {"none"}
    with np.load(FOLDER / f"{model}.npz") as theirs:
        for kind, maps in ours.items():
            wanted = theirs[f"{'maps' if kind == 'none' else 'corrected'} {layers}"]
            assert wanted.std() > 0.1 and len(wanted) == 4
            np.testing.assert_allclose(maps[:, ::3, ::3], wanted, atol=1e-9)
    if "siglip" in model:
        assert abs(ours["none"] - ours["empty text"]).max() > 0.05
