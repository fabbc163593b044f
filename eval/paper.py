"""The paper's figures, shown beside ours where a run has the settings of their row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from eval.tasks import TEMPLATES
from regionlm.datasets.dataset_options import DATASET_OPTIONS
from regionlm.embedders.options import MASKINVERSION_DEFAULTS

_OPTIONS = "embedder.options."
_UNSET = {  # defaults of settings that a run leaves out; the paper's backbones set none
    "masks": "exact",
    **{_OPTIONS + name: value for name, value in MASKINVERSION_DEFAULTS.items()},
}

_FILES = ("images", "hierarchy", "form")
"""Options of datasets that only say where files are and in which format."""


@lru_cache
def _tables() -> dict[str, Any]:
    return yaml.safe_load(Path(__file__).with_name("paper.yaml").read_text(encoding="utf-8"))


def paper_figures(settings: Mapping[str, Any]) -> dict[str, float]:
    """Return the paper's figures for a run, by metric, in [0, 1]; empty where it has none.

    A figure belongs to a task, dataset, split, backbone with its weights (with or without
    ``-quickgelu``) and embedder, and to the settings that `paper.yaml` names. The run must use all
    images, the task's own prompt and the dataset's default options, apart from those that say where
    its files are. Where tables differ, the first one counts.

    Args:
        settings: settings of the run, as in result.json; those left out have their defaults.
    """
    if not _is_usual(settings):
        return {}
    settings = {**settings, **{part: _split_tag(settings.get(part)) for part in ("model", "judge")}}
    data = _tables()
    task, dataset = settings["task"], settings["data"]["name"]
    family = settings["model"]["name"].removesuffix("-quickgelu")
    embedder = settings["embedder"]["name"]
    if _setting(settings, "data.split") not in (None, *data["splits"].get(dataset, ())):
        return {}
    if _setting(settings, "model.pretrained") != data["weights"].get(family):
        return {}
    found: dict[str, float] = {}
    for table in data["tables"]:
        if (table["task"], table["dataset"]) != (task, dataset):
            continue
        by = table.get("by")
        conditions = {**data["where"], **table.get("where", {})}
        conditions.pop(by, None)
        if not all(_meets(settings, name, wanted) for name, wanted in conditions.items()):
            continue
        row = table["rows"].get(family, {}).get(embedder, {})
        figures = row.get(_setting(settings, by), []) if by else row
        names = table.get("metrics") or data["metrics"][task]
        # Rows may end early (table 3 has Acc@1 only).
        for name, percent in zip(names, figures, strict=False):
            found.setdefault(name, round(percent / 100, 6))
    return found


def _split_tag(model: Mapping[str, Any] | None) -> Mapping[str, Any] | None:
    """Write ViT-B-16/openai as name and pretrained, as the tables do."""
    if model is None or model.get("pretrained") is not None or "/" not in model["name"]:
        return model
    name, _, tag = model["name"].rpartition("/")
    return {**model, "name": name, "pretrained": tag}


def _is_usual(settings: Mapping[str, Any]) -> bool:
    """Whether a run uses all images, with default prompt and dataset options."""
    task, data = settings["task"], settings["data"]
    if settings.get("limit") is not None:
        return False
    if settings.get("template") not in (None, TEMPLATES.get(task)):
        return False
    defaults = {field.name: field.default for field in fields(DATASET_OPTIONS[data["name"]])}
    options = {name: v for name, v in data.get("options", {}).items() if name not in _FILES}
    return all(_plain(value) == _plain(defaults[name]) for name, value in options.items())


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _meets(settings: Mapping[str, Any], name: str, wanted: Any) -> bool:
    if name.startswith(_OPTIONS) and settings["embedder"]["name"] != "maskinversion":
        return True
    value = _setting(settings, name)
    return value in wanted if isinstance(wanted, list) else value == wanted


def _setting(settings: Mapping[str, Any], name: str) -> Any:
    """Return a setting by its dotted name, or its default."""
    value: Any = settings
    for part in name.split("."):
        value = value.get(part) if isinstance(value, Mapping) else None
    return _UNSET.get(name) if value is None else value
