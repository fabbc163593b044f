"""Checks of the folders that models are kept in, and of the hub that they come from."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from regionlm.doctor.diagnosis import Row
from regionlm.doctor.run_check import reason

PATIENCE = 3.0
"""Seconds to wait for the hub."""


def hub_cache() -> Iterator[Row]:
    """Tell where the hub's files are kept."""
    from huggingface_hub import constants

    yield _folder("hub's files", Path(constants.HF_HUB_CACHE), "HF_HUB_CACHE")


def own_folders() -> Iterator[Row]:
    """Tell where regionlm looks for models put there by hand, and keeps what it downloads."""
    from regionlm.pretrained.presets import models_folder

    yield _folder("models", models_folder(), "REGIONLM_MODELS")
    kept = os.environ.get("REGIONLM_CACHE", Path.home() / ".cache" / "regionlm")
    yield _folder("pictograms", Path(kept), "REGIONLM_CACHE")


def _folder(name: str, path: Path, variable: str) -> Row:
    """Describe a folder, which need not exist yet; nothing is created or written."""
    if os.path.isdir(path):
        free = f"{shutil.disk_usage(path).free / 1e9:.1f} GB free"
        if os.access(path, os.R_OK | os.W_OK | os.X_OK):
            return Row(name, str(path), note=f"exists, {free}")
        return Row(name, str(path), state="note", note="exists, but is not writable")
    if os.path.lexists(path):
        note = f"is not a folder; remove it, or set {variable} to a folder"
        return Row(name, str(path), state="wrong", note=note)
    parents = path.absolute().parents
    above = next((one for one in parents if os.path.isdir(one)), path)
    if os.access(above, os.W_OK | os.X_OK):
        return Row(name, str(path), note="does not exist yet")
    note = f"does not exist, and {above} is not writable; set {variable} to another folder"
    return Row(name, str(path), state="note", note=note)


def hub(offline: bool) -> Iterator[Row]:
    """Tell whether the hub answers within `PATIENCE`, unless the user chose to be offline."""
    from huggingface_hub import constants

    address = constants.ENDPOINT
    if offline or constants.HF_HUB_OFFLINE:
        chosen = "--offline" if offline else "HF_HUB_OFFLINE"
        yield Row("hub", "not asked", note=f"{address}: offline by choice ({chosen})")
        return
    problem = _problem(address)
    if problem is None:
        yield Row("hub", "reachable", note=address)
        return
    note = f"{address}: {problem}; models on this machine work without it"
    yield Row("hub", "not reachable", state="note", note=note)


def _problem(address: str) -> str | None:
    """Return why the hub can't be reached, or None.

    Uses a thread, since no library limits the time for looking up a host name.
    """
    answers: SimpleQueue[str | None] = SimpleQueue()
    Thread(target=lambda: answers.put(_ask(address)), daemon=True).start()
    try:
        return answers.get(timeout=PATIENCE)
    except Empty:
        return f"no answer in {PATIENCE:.0f} seconds"


def _ask(address: str) -> str | None:
    from huggingface_hub import get_session

    try:
        answer = get_session().head(address, timeout=PATIENCE)
    except Exception as error:  # errors of the hub and the network have no common type
        return reason(error)
    return f"answers with status {answer.status_code}" if answer.status_code >= 500 else None
