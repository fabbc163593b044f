"""A model by its name, and what it is like."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from regionlm.errors import TAKE_ANOTHER, ModelError

Kind = Literal["bundle", "preset", "CLIP", "LLaVA"]


@dataclass(frozen=True)
class ModelFacts:
    """What a model is like; None is what its files don't say.

    Args:
        dim: width d of the space that images and texts share; None for a LLaVA, which has none.
        patch, size: (height, width) in pixels of a patch and of the model's own input.
        pooling: cls, mean or attention.
        parameters: number of all weights, those of the texts' part too.
    """

    dim: int | None = None
    patch: tuple[int, int] | None = None
    size: tuple[int, int] | None = None
    pooling: str | None = None
    parameters: int | None = None


@dataclass(frozen=True)
class ListedModel:
    """A model by its name.

    Args:
        name: what ``--model`` and ``from_pretrained`` take.
        kind: ``"bundle"`` and ``"preset"`` caption, match, embed and explain; ``"LLaVA"`` captions
            only; ``"CLIP"`` does everything else.
        files: its folder, or its file of weights; None: not on this machine.
        problem: why it can't be used, or None.
        facts: what it is like; empty if it can't be read.
    """

    name: str
    kind: Kind
    files: Path | None = None
    problem: str | None = None
    facts: ModelFacts = field(default_factory=ModelFacts)

    def to_dict(self) -> dict[str, Any]:
        """What ``--json`` says of it: JSON values, by name."""
        files = None if self.files is None else str(self.files)
        facts = {n: list(v) if isinstance(v, tuple) else v for n, v in asdict(self.facts).items()}
        return {
            "name": self.name,
            "kind": self.kind,
            **facts,
            "files": files,
            "problem": self.problem,
        }


def with_facts(model: ListedModel, read: Callable[[str], ModelFacts]) -> ListedModel:
    """The model with what ``read`` says of its name, or with the problem that it raises."""
    try:
        return replace(model, facts=read(model.name))
    except ModelError as error:
        problem = str(error).removeprefix(f"{model.name}: ").removesuffix(TAKE_ANOTHER)
        return replace(model, problem=problem)
