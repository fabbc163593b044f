"""Weights that open_clip publishes under a tag: from the Hugging Face cache or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from regionlm.backbones.open_clip_insides import HUB_FILES, URL_CACHE
from regionlm.errors import ModelError


def find_weights(what: str, tag_config: dict[str, Any], offline: bool) -> Path:
    """Local path of a tag's weights; downloads them unless ``offline``.

    Args:
        what: model and tag, for messages. tag_config: ``open_clip.get_pretrained_cfg``'s.

    Raises:
        ModelError: not on this machine and offline, or the download failed; says where to put them.
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
        " the file's path as pretrained"
    )


def _from_hub(repository: str, name: str, offline: bool) -> tuple[Path | None, str]:
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(repository, name, local_files_only=offline)), ""
    except Exception as error:  # missing entry, no network, no such repository, disk full ...
        return None, f"{type(error).__name__}: {error}"


def _first_line(text: str) -> str:
    return text.strip().split("\n", 1)[0][:200]
