"""Which models there are: on this machine, and all that can be loaded by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fnmatch import fnmatch
from functools import partial

from regionlm.errors import InputError
from regionlm.pretrained.facts import open_clip_facts
from regionlm.pretrained.listed_model import ListedModel, ModelFacts, with_facts
from regionlm.pretrained.local_models import hub_models, own_models, presets, shipped
from regionlm.pretrained.presets import models_folder

__all__ = ["ListedModel", "ModelFacts", "list_models"]


def list_models(*patterns: str, everything: bool = False) -> list[ListedModel]:
    """Models that can be named, without loading or downloading any.

    Args:
        *patterns: parts of names, in upper or lower case, or wildcards for whole ones
            (``*SigLIP*384/*``); a model whose name fits any is listed, on this machine or not.
        everything: list all models, without patterns too; otherwise only those on this machine, and
            the presets.

    Returns:
        Those that ship, presets, models on this machine by name, then all others by name. Models of
        open_clip's that can't be used are among the others, with their ``problem``.

    Raises:
        InputError: a pattern that is not text.
    """
    for one in patterns:
        if not isinstance(one, str):
            raise InputError(
                f"patterns: expected text, found {one!r}; give each by itself, as in"
                " list_models('mini', '*siglip*')"
            )
    wanted = _Wanted(patterns)
    local = [*own_models(wanted), *_published(wanted, present=True)]
    weights = {one.files for one in local}
    local += [one for one in hub_models(wanted) if not _holds(one, weights)]
    found = [*shipped(wanted), *presets(wanted), *sorted(local, key=_order)]
    if everything or patterns:
        names = {one.name for one in found}
        others = [one for one in _published(wanted, present=False) if one.name not in names]
        found += sorted(others, key=_order)
    return found


def fits(name: str, pattern: str) -> bool:
    """Whether a name is one that a pattern of `list_models` asks for."""
    name, pattern = name.lower(), pattern.lower()
    return pattern in name or fnmatch(name, pattern)


class _Wanted:
    """Which names were asked for."""

    def __init__(self, patterns: Sequence[str]) -> None:
        self._patterns = patterns

    def __call__(self, name: str) -> bool:
        """Whether a name fits; every name if there are no patterns."""
        return not self._patterns or any(fits(name, one) for one in self._patterns)


def _published(wanted: Callable[[str], bool], *, present: bool) -> Iterator[ListedModel]:
    """open_clip's models: each tag of one that has tags, others without."""
    import open_clip

    from regionlm.backbones.published_weights import cached_weights

    for name in open_clip.list_models():
        tags = open_clip.list_pretrained_tags_by_model(name)
        here = {tag: cached_weights(open_clip.get_pretrained_cfg(name, tag)) for tag in tags}
        fit = [tag for tag in tags if wanted(f"{name}/{tag}") and bool(here[tag]) == present]
        untagged = not tags and not present and wanted(name)
        if not fit and not untagged:
            continue
        config = open_clip.get_model_config(name)
        model = with_facts(ListedModel(name, "CLIP"), partial(open_clip_facts, config))
        for tag in fit:
            yield replace(model, name=f"{name}/{tag}", files=here[tag])
        if untagged:
            problem = f"has no published weights; put a file of some into {models_folder() / name}"
            yield replace(model, problem=model.problem or problem)


def _holds(model: ListedModel, files: set) -> bool:
    """Whether a folder of the hub's cache is listed already, by the name of open_clip's tag."""
    return any(model.files in file.parents for file in files if file is not None)


def _order(model: ListedModel) -> str:
    return model.name.lower()
