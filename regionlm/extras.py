"""Packages that `pip install .` leaves out."""

from __future__ import annotations

from importlib.util import find_spec

from regionlm.errors import InputError


def require(extra: str, *modules: str) -> None:
    """Raise InputError, naming the extra to install, unless all these modules are there."""
    missing = [module for module in modules if find_spec(module) is None]
    if missing:
        raise InputError(
            f"this needs {' and '.join(missing)}, not installed: pip install"
            f' "regionlm[{extra}]" (in a checkout: pip install ".[{extra}]")'
        )
