"""Upload a bundle to the Hugging Face hub."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

from prefix_models.errors import refusing
from regionlm.errors import InputError, ModelError


def check_access(repo_id: str) -> None:
    """Raise now what an upload would raise after hours of training.

    Raises:
        InputError: the id is not valid. ModelError: not logged in, or the hub is disabled.
    """
    from huggingface_hub import constants, get_token
    from huggingface_hub.utils import validate_repo_id

    with refusing(InputError, "push_to_hub", ValueError):
        validate_repo_id(repo_id)
    if constants.HF_HUB_OFFLINE:
        raise ModelError(f"cannot push to {repo_id}: HF_HUB_OFFLINE is set; unset it")
    if get_token() is None:
        raise ModelError(
            f"cannot push to {repo_id}: you are not logged in; run `hf auth login`, or set HF_TOKEN"
        )


def push(write: Callable[[Path], object], repo_id: str, *, private: bool) -> str:
    """Upload what ``write`` writes to a folder; see ``RegionCaptioner.push_to_hub``."""
    from huggingface_hub import HfApi

    check_access(repo_id)
    with TemporaryDirectory() as scratch:
        folder = Path(scratch) / "bundle"
        write(folder)
        api = HfApi(endpoint=os.environ.get("HF_ENDPOINT"))
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            done = api.upload_folder(
                repo_id=repo_id, folder_path=folder, commit_message="Upload regionlm bundle"
            )
        except Exception as error:  # the hub's and the network's errors have no common type
            reason = str(error).strip().splitlines() or [""]
            raise ModelError(
                f"cannot push to {repo_id}: {type(error).__name__} {reason[0][:200]}"
            ) from error
    return str(done.commit_url)
