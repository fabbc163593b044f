"""Compare installed versions with the tested ones and with pyproject.toml."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

from regionlm.doctor.diagnosis import Row

if TYPE_CHECKING:
    from packaging.specifiers import SpecifierSet
    from packaging.version import Version

_TESTED = Path(__file__).with_name("tested_versions.json")
_DEVELOPERS = ("dev", "docs")  # tools that no command imports
_LEAST = (">=", ">", "==", "~=")

Wanted = dict[str, "SpecifierSet"]
"""Requested versions by the name of the package."""


def own_version() -> str:
    """Return the version of regionlm."""
    return _installed("regionlm") or "unknown"  # in a checkout that was never installed


def versions() -> Iterator[Row]:
    """Yield a row for each package that regionlm needs, and for installed packages of its extras.

    Packages that are missing, or older than pyproject.toml asks for, are wrong; other versions than
    the tested ones are notes.
    """
    tested = _tested()
    core, with_extras = required()
    if not core:
        yield Row("regionlm", "not installed", state="note", note="its requirements are not known")
        core = {name: _any_version() for name in tested if _installed(name) is not None}
    for name, wanted in core.items():
        yield _version_row(name, wanted, tested)
    for name, wanted in _of_users(with_extras).items():
        if name not in core and _installed(name) is not None:
            yield _version_row(name, wanted, tested)


def extras() -> Iterator[Row]:
    """Yield a row for each extra: it is there, or what is missing and how to install it."""
    for name, packages in required()[1].items():
        missing = [f"{one}{wanted}" for one, wanted in packages.items() if _lacks(one, wanted)]
        if not missing:
            yield Row(name, "installed")
            continue
        command = f'pip install "regionlm[{name}]" (in a checkout: pip install ".[{name}]")'
        note = f"needs {', '.join(missing)}: {command}"
        yield Row(name, "not installed", state="note", note=note)


def required() -> tuple[Wanted, dict[str, Wanted]]:
    """Return what regionlm requires, and what each of its extras requires, from its metadata.

    Both are empty if regionlm is not installed.
    """
    try:
        lines = metadata.requires("regionlm") or []
    except metadata.PackageNotFoundError:
        return {}, {}
    names = dict.fromkeys(re.findall(r"""\bextra\s*==\s*["']([\w.-]+)["']""", " ".join(lines)))
    return _asked(lines, ""), {name: _asked(lines, name) for name in names}


def _tested() -> dict[str, str]:
    """Return the versions that were tested with this Python, by canonical name."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    found = map(Requirement, json.loads(_TESTED.read_text(encoding="utf-8")))
    return {
        canonicalize_name(one.name): next(iter(one.specifier)).version
        for one in found
        if one.marker is None or one.marker.evaluate()
    }


def _asked(lines: list[str], extra: str) -> Wanted:
    from packaging.requirements import Requirement

    found: Wanted = {}
    for requirement in map(Requirement, lines):
        marker = requirement.marker
        always = marker is None or marker.evaluate({"extra": ""})
        if always == bool(extra) or not (marker is None or marker.evaluate({"extra": extra})):
            continue
        if requirement.name == "regionlm":  # an extra that includes others
            for other in sorted(requirement.extras):
                _ask(found, _asked(lines, other))
        else:
            _ask(found, {requirement.name: requirement.specifier})
    return found


def _ask(found: Wanted, more: Wanted) -> None:
    """Add requirements; a package that is required twice has to satisfy both."""
    for name, wanted in more.items():
        found[name] = found.get(name, _any_version()) & wanted


def _of_users(with_extras: Mapping[str, Wanted]) -> Wanted:
    """Return what all extras require, except those for developers."""
    found: Wanted = {}
    for name, packages in with_extras.items():
        if name not in _DEVELOPERS:
            _ask(found, packages)
    return found


def _version_row(name: str, wanted: SpecifierSet, tested: Mapping[str, str]) -> Row:
    from packaging.utils import canonicalize_name

    version, reference = _installed(name), tested.get(canonicalize_name(name), "")
    cure = f'pip install "{name}{wanted}"'
    if version is None:
        return Row(name, "missing", reference, "wrong", cure)
    found = _parsed(version)
    if found is None:
        note = f"has no valid version: {cure} --force-reinstall"
        return Row(name, version or "unknown", reference, "wrong", note)
    if _is_older(found, wanted):
        note = f"older than regionlm asks for ({wanted}): {cure}"
        return Row(name, version, reference, "wrong", note)
    if not wanted.contains(found, prereleases=True):
        return Row(name, version, reference, "note", f"newer than regionlm allows ({wanted})")
    if reference and found.public != reference:
        return Row(name, version, reference, "note", "not the version that was tested")
    return Row(name, version, reference)


def _lacks(name: str, wanted: SpecifierSet) -> bool:
    found = _parsed(_installed(name) or "")
    return found is None or _is_older(found, wanted)


def _is_older(found: Version, wanted: SpecifierSet) -> bool:
    least = (one for one in wanted if one.operator in _LEAST)
    return not all(one.contains(found, prereleases=True) for one in least)


def _parsed(version: str) -> Version | None:
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version)
    except InvalidVersion:
        return None


def _installed(name: str) -> str | None:
    """Return the version of a package; "" if its metadata have none, None if it is missing."""
    try:
        return metadata.version(name) or ""
    except metadata.PackageNotFoundError:
        return None


def _any_version() -> SpecifierSet:
    from packaging.specifiers import SpecifierSet

    return SpecifierSet()
