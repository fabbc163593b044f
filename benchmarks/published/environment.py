"""The authors' packages, apart: a virtual environment with the versions that they ask for."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("maskinversion_torch==1.1", "legrad_torch==1.1", "open_clip_torch==2.23.0")


def default_folder() -> Path:
    """Where environment and results are kept between runs: the user's cache."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "regionlm" / "published_maskinversion"


def authors_python(folder: Path) -> Path:
    """The interpreter of the environment in ``folder``; makes and fills it where needed.

    open_clip 2.23 can't share an environment with regionlm, which needs 3.x. torch and torchvision
    are those of this process, so that neither side has the faster kernels.
    """
    python = folder / "bin" / "python"
    wanted = [*PACKAGES, *(f"{name}=={_release(name)}" for name in ("torch", "torchvision"))]
    if not python.exists():
        venv.create(folder, with_pip=True)
    if not _has(python, wanted):
        print(f"installing {', '.join(wanted)} into {folder}", file=sys.stderr, flush=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *wanted], check=True)
    return python


def _release(package: str) -> str:
    """The installed version without a local part such as ``+cpu``, which an index may not have."""
    return version(package).split("+")[0]


def _has(python: Path, wanted: list[str]) -> bool:
    check = (
        "import sys; from importlib.metadata import version;"
        "pins = [pin.split('==') for pin in sys.argv[1:]];"
        "sys.exit(any(version(name).split('+')[0] != wanted for name, wanted in pins))"
    )
    found = subprocess.run([python, "-c", check, *wanted], stderr=subprocess.DEVNULL, check=False)
    return found.returncode == 0
