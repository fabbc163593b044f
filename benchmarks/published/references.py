"""Small files of the authors' results for the tests, and the rows that they hold."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from .cases import Row, fingerprint, matrix
from .compare import load

FOLDER = Path(__file__).resolve().parents[2] / "tests" / "regionlm" / "reference"
STRIDE = 10  # of the mask pixels whose map values are kept, starting at half of it


def reference_rows() -> list[Row]:
    """What the tests check: B/32 at 224 px in full, some of the larger, all options on tiny ones.

    In float64, where equal programs stay equal, and those of a single mask in float32, too, but for
    L/14: its 24 layers of random weights take float32 rounding to 1.01e-3 in one pixel of the map.
    Chosen so that one core needs little more than a minute for all of them.
    """
    rows = _float32_rows()
    return [replace(row, dtype="float64") for row in rows] + [
        row for row in rows if row.masks == 1 and row.model != "ViT-L-14"
    ]


def _float32_rows() -> list[Row]:
    rows = matrix(["ViT-B-32"], [224], [1, 3, 7])
    rows += [
        Row("ViT-B-32-quickgelu", 224, 1, 0.0, 0.5),
        Row("ViT-B-32", 448, 1, 5.0, 0.5),
        Row("ViT-B-16", 224, 3, 0.0, 0.5),
        Row("ViT-B-16", 224, 3, 5.0, 0.1),
        Row("ViT-B-16", 448, 1, 0.0, 0.5),
        Row("ViT-L-14", 224, 1, 5.0, 0.5),
    ]
    rows += matrix(["tiny", "tiny-quickgelu", "tiny-layerscale"], [64, 112], [1, 7])
    rows += [
        Row("tiny", 64, 3, 0.0, 0.5, steps=1),
        Row("tiny", 64, 3, 0.5, 0.1, steps=30),
        Row("tiny", 64, 3, 0.0, 0.5, weight_decay=0.1),
        Row("tiny", 40, 3, 5.0, 0.5),
    ]
    return rows


def write_references(authors: Path) -> None:
    """One ``<model>.npz`` for each model, from the authors' stored rows.

    Arrays are named ``<row number>/<what>``; ``rows`` is JSON; ``fingerprint`` is that of the
    inputs. Maps are thinned by ``STRIDE``.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    by_model: dict[str, list[Row]] = {}
    for row in reference_rows():
        by_model.setdefault(row.model, []).append(row)
    for model, rows in by_model.items():
        arrays: dict[str, Any] = {
            "rows": json.dumps([asdict(row) for row in rows]),
            "fingerprint": fingerprint(),
        }
        for number, row in enumerate(rows):
            with load(authors, row) as stored:
                arrays[f"{number}/let"] = stored["let"].astype(np.float32)
                for name in ("map", "map_before_last_step"):
                    arrays[f"{number}/{name}"] = thin(stored[name])
        np.savez_compressed(FOLDER / f"{model}.npz", **arrays)


def thin(maps: np.ndarray) -> np.ndarray:
    """Every ``STRIDE``-th pixel in both directions of maps [M, H, W]."""
    return maps[:, STRIDE // 2 :: STRIDE, STRIDE // 2 :: STRIDE]
