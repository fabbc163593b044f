"""The paper's figures, to stand beside ours."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml


@lru_cache
def _tables() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8"))


def paper_figures(task: str, dataset: str, backbone: str, embedder: str) -> dict[str, float]:
    """The paper's figures for a row, by metric, in [0, 1]; empty where it has none.

    Args:
        task: as the tasks are named.
        dataset: as `open_dataset` knows it.
        backbone: open_clip's name; ``-quickgelu`` and input sizes don't matter.
        embedder: as `make_embedder` knows it.
    """
    data = _tables()
    family = backbone.removesuffix("-quickgelu")
    found: dict[str, float] = {}
    for table in data["tables"]:
        if (table["task"], table["dataset"]) != (task, dataset):
            continue
        rows = table["rows"].get(family) or table["rows"].get("any") or {}
        names = table.get("metrics") or data["metrics"][task]
        # Rows may end early (table 3 has Acc@1 only).
        for name, percent in zip(names, rows.get(embedder, []), strict=False):
            found.setdefault(name, percent / 100)
    return found
