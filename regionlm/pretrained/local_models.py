"""Models on this machine: what ships, presets, the user's folder of models, and the hub's cache."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

from regionlm.backbones.published_weights import cached_file, cached_weights
from regionlm.pretrained.bundle import BACKBONE, BUNDLE, PREFIX_MODEL, SHIPPED
from regionlm.pretrained.facts import (
    damaged_file,
    open_clip_facts,
    open_clip_folder_facts,
    stored_parameters,
    transformers_facts,
)
from regionlm.pretrained.listed_model import ListedModel, ModelFacts, with_facts
from regionlm.pretrained.model_kinds import embeds_in_transformers, is_llava
from regionlm.pretrained.presets import (
    CLIP_FILES,
    PRESETS,
    TOKENIZER_FILES,
    Preset,
    models_folder,
)

Wanted = Callable[[str], bool]
_WEIGHTS = (".safetensors", ".pt", ".pth", ".bin")


def shipped(wanted: Wanted) -> Iterator[ListedModel]:
    """Bundles that come with the package."""
    yield from (_bundle(name, folder) for name, folder in SHIPPED.items() if wanted(name))


def presets(wanted: Wanted) -> Iterator[ListedModel]:
    """All presets; with files if all their parts are here."""
    import open_clip

    for name, preset in PRESETS.items():
        if wanted(name):
            clip = open_clip_facts(open_clip.get_model_config(preset.backbone), preset.backbone)
            facts = replace(clip, parameters=None)  # that of the CLIP alone would mislead
            yield ListedModel(name, "preset", _files_of(name, preset), facts=facts)


def own_models(wanted: Wanted) -> Iterator[ListedModel]:
    """Models in ``models_folder()``, by the name of an open_clip model or their path."""
    import open_clip

    names = open_clip.list_models()
    for folder in _folders(models_folder()):
        name = folder.name if folder.name in names else str(folder)
        if folder.name in PRESETS or not wanted(name):
            continue
        found = _described(name, folder)
        if found is None and folder.name in names:
            config = open_clip.get_model_config(name)
            found = ListedModel(name, "CLIP", folder)
            found = with_facts(found, partial(open_clip_facts, config))
            count = sum(one.suffix in _WEIGHTS for one in folder.iterdir())
            if count != 1:
                found = replace(found, problem=f"expected one file of weights, found {count}")
            found = replace(found, problem=found.problem or _damage(folder.iterdir()))
        if found is not None:
            yield found


def hub_models(wanted: Wanted) -> Iterator[ListedModel]:
    """Bundles, CLIPs and LLaVAs in the hub's cache, by their ids."""
    from huggingface_hub import CacheNotFound, constants, scan_cache_dir

    try:
        cached = scan_cache_dir(constants.HF_HUB_CACHE)
    except (CacheNotFound, ValueError):  # the latter: it is a file
        return
    for repo in cached.repos:
        if repo.repo_type != "model" or not wanted(repo.repo_id) or not repo.revisions:
            continue
        newest = max(repo.revisions, key=lambda one: ("main" in one.refs, one.last_modified))
        found = _described(repo.repo_id, newest.snapshot_path)
        if found is not None:
            yield found


def _described(name: str, folder: Path) -> ListedModel | None:
    """A model that is a folder; None if it is of a kind that regionlm does not know."""
    from regionlm.backbones.open_clip_insides import CONFIG_FILE, WEIGHT_FILES

    if BUNDLE.is_kind_of(folder):
        return _bundle(name, folder)
    model = ListedModel(name, "CLIP", folder)
    if (folder / CONFIG_FILE).is_file():
        model = with_facts(model, lambda one: open_clip_folder_facts(folder, one))
        has_weights = any((folder / file).is_file() for file in WEIGHT_FILES)
    elif is_llava(folder) or embeds_in_transformers(folder):
        model = replace(model, kind="LLaVA" if is_llava(folder) else "CLIP")
        model = with_facts(model, lambda _: transformers_facts(folder))
        has_weights = any(one.suffix in _WEIGHTS for one in folder.iterdir())
    else:
        return None
    missing = None if has_weights else "its weights are not here"
    return replace(model, problem=model.problem or missing or _damage(folder.iterdir()))


def _bundle(name: str, folder: Path) -> ListedModel:
    def facts(name: str) -> ModelFacts:
        parts = [folder / part for part in (BACKBONE, PREFIX_MODEL)]
        count = stored_parameters(file for part in parts for file in part.rglob("*.safetensors"))
        return replace(open_clip_folder_facts(parts[0], name), parameters=count)

    captions = (folder / PREFIX_MODEL).is_dir()
    found = with_facts(ListedModel(name, "bundle" if captions else "CLIP", folder), facts)
    return replace(found, problem=found.problem or _damage(folder.rglob("*")))


def _damage(files: Iterable[Path]) -> str | None:
    """The problem with the first file of weights that is damaged; None if there is none."""
    found = damaged_file(one for one in sorted(files) if one.suffix in _WEIGHTS)
    return None if found is None else f"{found.name} is damaged; copy or download it again"


def _files_of(name: str, preset: Preset) -> Path | None:
    """The file of the preset's captioner; None unless all of the preset's parts are here."""
    import open_clip

    from prefix_models.clipcap.original import GPT2_HUB_ID

    folder = models_folder() / name
    published = open_clip.get_pretrained_cfg(preset.backbone, preset.pretrained)
    captioner = _first(folder, (preset.file,)) or cached_file(preset.hub_id, preset.file)
    tokenizers = (cached_file(GPT2_HUB_ID, file) for file in TOKENIZER_FILES)
    tokenizer = _first(folder, TOKENIZER_FILES) or next(filter(None, tokenizers), None)
    clip = _first(folder, CLIP_FILES) or cached_weights(published)
    return captioner if captioner and tokenizer and clip else None


def _first(folder: Path, files: Iterable[str]) -> Path | None:
    return next((folder / file for file in files if (folder / file).is_file()), None)


def _folders(folder: Path) -> list[Path]:
    return sorted(one for one in folder.iterdir() if one.is_dir()) if folder.is_dir() else []
