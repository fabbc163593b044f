"""Published backbones: from the Hugging Face cache, or downloaded from the hub."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from prefix_models.folders import CONFIG
from regionlm.backbones.open_clip_insides import CONFIG_FILE, HUB_FILES, URL_CACHE, WEIGHT_FILES
from regionlm.errors import ModelError


def find_weights(what: str, tag_config: dict[str, Any], offline: bool) -> Path:
    """Local path of a tag's weights, downloaded unless ``offline``.

    Args:
        what: model and tag, for messages.
        tag_config: from ``open_clip.get_pretrained_cfg``.
        offline: use only files on this machine.

    Raises:
        ModelError: they are not on this machine and can't be downloaded; the message says where to
            get them.
    """
    repository, _, filename = tag_config.get("hf_hub", "").rpartition("/")
    names = (filename,) if filename else HUB_FILES
    url = tag_config.get("url", "")
    reason = "not on this machine"
    if repository:
        for name in names:
            found, reason = _from_hub(repository, name, offline)
            if found is not None:
                return found
    if url:
        cached = URL_CACHE.expanduser() / url.rsplit("/", 1)[-1]
        if cached.is_file():
            return cached
        if not offline and not repository:
            from open_clip import download_pretrained_from_url

            try:
                return Path(download_pretrained_from_url(url))
            except Exception as error:  # urllib's many
                reason = f"{type(error).__name__}: {error}"
    where = f"{repository}/{names[0]} from the Hugging Face hub" if repository else url
    how = "--offline was given" if offline else f"the download failed ({_first_line(reason)})"
    raise ModelError(
        f"{what}: its weights are not on this machine and {how}; fetch {where} elsewhere and give"
        " the file's path as pretrained; or, on the command line, put it into"
        " ~/.cache/regionlm/models/NAME and give --model NAME, without a tag (docs/models.md)"
    )


def cached_weights(tag_config: Mapping[str, Any]) -> Path | None:
    """A tag's weights where `find_weights` finds them offline; None if they are not there."""
    repository, _, filename = tag_config.get("hf_hub", "").rpartition("/")
    for name in (filename,) if filename else HUB_FILES:
        found = cached_file(repository, name) if repository else None
        if found is not None:
            return found
    url = tag_config.get("url", "")
    file = URL_CACHE.expanduser() / url.rsplit("/", 1)[-1]
    return file if url and file.is_file() else None


def cached_file(hub_id: str, name: str) -> Path | None:
    """A file of a hub repository in the hub's cache; None if it is not there."""
    from huggingface_hub import constants, try_to_load_from_cache

    found = try_to_load_from_cache(hub_id, name, cache_dir=constants.HF_HUB_CACHE)
    return Path(found) if isinstance(found, str) else None


def download_folder(
    hub_id: str,
    offline: bool,
    *,
    revision: str | None = None,
    token: str | bool | None = None,
    cache_dir: str | Path | None = None,
    force_download: bool = False,
) -> Path:
    """Local folder of a hub repository, downloaded unless ``offline``.

    If it has weights in several formats, only one is downloaded, and none of other frameworks. The
    options are huggingface_hub's.

    Raises:
        ModelError: there is no such repository, on this machine or on the hub, or the download
            failed.
    """
    from huggingface_hub import HfApi, snapshot_download

    if offline:
        return _cached_folder(hub_id, revision, cache_dir)
    try:
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"), token=token)
        files = api.list_repo_files(hub_id, revision=revision)
        return Path(
            snapshot_download(
                hub_id,
                revision=revision,
                token=token,
                cache_dir=cache_dir,
                force_download=force_download,
                ignore_patterns=_needless(files),
            )
        )
    except Exception as error:  # no network, no such repository, disk full, and so on
        raise not_found(hub_id, offline, error, revision) from error


def _cached_folder(hub_id: str, revision: str | None, cache_dir: str | Path | None) -> Path:
    """A repository's folder in the hub's cache, even if it is incomplete."""
    from huggingface_hub import try_to_load_from_cache

    for name in (CONFIG_FILE, CONFIG):
        found = try_to_load_from_cache(hub_id, name, cache_dir, revision)
        if isinstance(found, str):
            return Path(found).parent
    raise not_found(hub_id, offline=True, revision=revision)


def not_found(
    hub_id: str, offline: bool, error: Exception | None = None, revision: str | None = None
) -> ModelError:
    """What to raise about a hub repository that can't be downloaded, or isn't in the cache."""
    model = repr(hub_id) if revision is None else f"{hub_id!r} of revision {revision!r}"
    if offline:
        return ModelError(
            f"no model {model} in the local hub cache, and --offline was given; download it"
            " while there is a network, or give a folder"
        )
    return ModelError(
        f"no model {model} on the hub ({type(error).__name__}); check it, or give a folder"
    )


def _needless(files: Iterable[str]) -> list[str]:
    """Files of a repository that are redundant weights, or those of other frameworks."""
    files = list(files)
    whole = [name for name in WEIGHT_FILES if name in files][1:]
    others = [name for name in files if name.endswith((".h5", ".msgpack", ".onnx", ".ot"))]
    safe = any(re.fullmatch(r"model-\d+-of-\d+\.safetensors", name) for name in files)
    sharded = [name for name in files if safe and re.match(r"pytorch_model-\d+-of-", name)]
    return [*whole, *others, *sharded]


def _from_hub(repository: str, name: str, offline: bool) -> tuple[Path | None, str]:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name, local_files_only=offline)), ""
    except Exception as error:  # missing file, no network, no such repository, disk full, and so on
        return None, f"{type(error).__name__}: {error}"


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0][:200]
