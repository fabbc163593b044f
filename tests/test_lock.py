"""The lock fits pyproject.toml, and what is made from it fits the lock."""

import json
import re
import runpy
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
LINES = [
    line
    for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    if not line.startswith("#")
]
LOCKED = [Requirement(line) for line in LINES]
PYTHONS = ["3.10.13", "3.11.7", "3.12.1", "3.13.0"]


def wanted() -> list[Requirement]:
    """What pyproject.toml asks for, extras included."""
    asked = runpy.run_path(str(ROOT / ".ci/tested_versions.py"))["requirements"]()
    return [Requirement(one) for one in asked]


def environment(python: str, system: str, machine: str) -> dict[str, str]:
    return {
        "python_version": ".".join(python.split(".")[:2]),
        "python_full_version": python,
        "sys_platform": system,
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "implementation_name": "cpython",
    }


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize(
    ("system", "machine"), [("linux", "x86_64"), ("linux", "aarch64"), ("darwin", "arm64")]
)
def test_each_dependency_has_one_version_that_is_allowed(python, system, machine):
    where = environment(python, system, machine)
    for one in wanted():
        if one.marker is not None and not one.marker.evaluate(where):
            continue
        found = [
            lock
            for lock in LOCKED
            if canonicalize_name(lock.name) == canonicalize_name(one.name)
            and (lock.marker is None or lock.marker.evaluate(where))
        ]
        assert len(found) == 1, (one, found)
        assert one.specifier.contains(str(found[0].specifier).removeprefix("=="))


def test_it_has_versions_and_no_addresses():
    assert len(LINES) > 100
    assert all(re.fullmatch(r"[\w.-]+==[\w.]+( ; .+)?", line) for line in LINES)


def test_doctors_versions_are_the_locks():
    tested = json.loads((ROOT / "regionlm/doctor/tested_versions.json").read_text(encoding="utf-8"))
    direct = {canonicalize_name(one.name) for one in wanted()}
    assert set(tested) == {
        line for line in LINES if canonicalize_name(line.partition("==")[0]) in direct
    }


def test_the_readme_installs_with_it():
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    section = readme[readme.index("## Set-up") :]
    commands = re.findall(r"^python3 -m venv.*$", section, re.M)
    assert len(commands) == 2 and all("pip install -c constraints.txt" in one for one in commands)
