"""The model card of a trained bundle, from the facts of its run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from huggingface_hub import ModelCardData

from training.fit import Fitted
from training.fit_settings import Fit, PairSet

_PACKAGES = ("regionlm", "torch", "lightning", "transformers")


@dataclass(frozen=True)
class Facts:
    """What the card says in addition to the settings.

    backbone, language_model: names. kind: class of the prefix model. pairs: numbers of training
    and validation pairs. trained: number of trained weights.
    """

    name: str
    backbone: str
    language_model: str
    kind: str
    pairs: tuple[int, int]
    trained: int
    fitted: Fitted


def write_card(settings: Fit, facts: Facts) -> str:
    """The text of README.md, with the metadata that the hub expects."""
    data = ModelCardData(
        license=settings.card.license,
        library_name="regionlm",
        pipeline_tag="image-to-text",
        base_model=[name for name in _base_models(settings) if _is_hub_id(name)] or None,
        tags=["region-captioning", "maskinversion", facts.kind],
        ignore_metadata_errors=True,
    )
    return f"---\n{data.to_yaml()}\n---\n\n" + "\n\n".join(_sections(settings, facts)) + "\n"


def _sections(settings: Fit, facts: Facts) -> list[str]:
    model = settings.push_to_hub or "THIS_FOLDER"
    return [
        f"# {facts.name}",
        "Says in words what is in a region of an image: a frozen CLIP, MaskInversion, and a prefix"
        " model in front of a language model.",
        f"```bash\nregionlm caption image.jpg --mask mask.png --model {model}\n```",
        "## Parts",
        f"- Backbone: {facts.backbone}, frozen.\n"
        f"- Prefix model: {facts.kind}, {facts.trained:,} weights trained"
        f" ({settings.recipe.trains}).\n"
        f"- Language model: {_shown(facts.language_model)}.\n"
        f"- Started from: {_shown(settings.start.bundle) or 'a new mapper'}.\n"
        f"- Licence: {settings.card.license or 'not stated by who trained it'}.",
        "## Data",
        *([settings.card.data] if settings.card.data else []),
        _data(settings, facts),
        "## Recipe",
        _block({**asdict(settings.recipe), "trainer": settings.trainer}),
        "## Metrics",
        _metrics(facts),
        "Made with " + ", ".join(f"{name} {version(name)}" for name in _PACKAGES) + ".",
    ]


def _data(settings: Fit, facts: Facts) -> str:
    lines = [
        f"{facts.pairs[0]} pairs of embedding and text to train on"
        + (f", {facts.pairs[1]} to validate." if facts.pairs[1] else "; none to validate.")
    ]
    sets = {"training": settings.data, "validation": settings.validation}
    for use, members in sets.items():
        lines += [f"- {use}: {_set(one)}" for one in members]
    return "\n".join([lines[0], "", *lines[1:]])


def _set(one: PairSet) -> str:
    given = {**one.options, **({"limit": one.limit} if one.limit is not None else {})}
    options = ", ".join(f"{name} {_shown(value)}" for name, value in given.items())
    chosen = ", ".join(f"{name} {value}" for name, value in one.embedder_options.items())
    return f"{one.source} ({options}), embedded by {one.embedder}" + (f" ({chosen})" * bool(chosen))


def _metrics(facts: Facts) -> str:
    figures = {
        "optimiser steps": facts.fitted.steps,
        "last training loss, nats a token": facts.fitted.loss,
        "last validation loss, nats a token": facts.fitted.val_loss,
    }
    rows = [
        f"| {name} | {value if isinstance(value, int) else f'{value:.4f}'} |"
        for name, value in figures.items()
        if value is not None
    ]
    return "\n".join(["| metric | value |", "|---|---|", *rows])


def _block(values: dict[str, Any]) -> str:
    text = yaml.safe_dump(values, sort_keys=False, default_flow_style=False)
    return f"```yaml\n{text}```"


def _shown(value: Any) -> Any:
    """A value without the folders of the machine it was trained on."""
    return Path(value).name if isinstance(value, str) and Path(value).exists() else value


def _is_hub_id(name: str) -> bool:
    return name.count("/") == 1 and not Path(name).exists()


def _base_models(settings: Fit) -> list[str]:
    return [name for name in (settings.start.language_model, settings.start.bundle) if name]
