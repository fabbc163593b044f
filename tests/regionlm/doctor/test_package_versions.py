"""Installed versions beside tested ones; extras that are there or not."""

import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import pytest

from regionlm.doctor import Row
from regionlm.doctor.package_versions import extras, own_version, versions

_REQUIRES = [
    "torch>=2.9",
    "transformers<6,>=5.0",
    "numpy>=1.26",
    "numpy>=99; python_version < '3'",
    "lightning>=2.6; extra == 'bulk'",
    "regionlm[bulk]; extra == 'train'",
    "pyyaml>=6; extra == 'train'",
    "regionlm[train]; extra == 'dev'",
    "ruff>=0.6; extra == 'dev'",
]
_TESTED = [
    "torch==2.14.1",
    "transformers==5.20.2 ; python_full_version < '3'",
    "transformers==5.24.0 ; python_full_version >= '3'",
    "numpy==2.2.6",
    "lightning==2.6.6",
    "pyyaml==6.0.4",
]
_SOUND = {
    "regionlm": "0.1.0", "torch": "2.14.1+cu130", "transformers": "5.24.0", "numpy": "2.2.6",
    "lightning": "2.6.6", "pyyaml": "6.0.4", "ruff": "0.17.6",
}  # fmt: skip

Install = Callable[..., None]


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Install:
    """Pretend that sound versions are installed, but for those given; None is not there."""
    tested = tmp_path / "tested.json"
    tested.write_text(json.dumps(_TESTED))
    monkeypatch.setattr("regionlm.doctor.package_versions._TESTED", tested)

    def pretend(**changed: str | None) -> None:
        installed = {**_SOUND, **changed}

        def version(name: str) -> str | None:
            if installed.get(name) is None:
                raise metadata.PackageNotFoundError(name)
            return installed[name]

        def requires(name: str) -> list[str]:
            version(name)
            return _REQUIRES

        monkeypatch.setattr(metadata, "version", version)
        monkeypatch.setattr(metadata, "requires", requires)

    pretend()
    return pretend


def _row(name: str) -> Row:
    (row,) = (row for row in versions() if row.name == name)
    return row


def test_what_was_tested_is_shown_beside_what_is_there(install: Install) -> None:
    rows = {row.name: (row.found, row.expected, row.state) for row in versions()}
    assert rows == {
        "torch": ("2.14.1+cu130", "2.14.1", "ok"),
        "transformers": ("5.24.0", "5.24.0", "ok"),
        "numpy": ("2.2.6", "2.2.6", "ok"),
        "lightning": ("2.6.6", "2.6.6", "ok"),
        "pyyaml": ("6.0.4", "6.0.4", "ok"),
    }
    assert own_version() == "0.1.0"


@pytest.mark.parametrize(
    ("package", "version", "state", "note"),
    [
        ("torch", "2.15.0", "note", "not the version that was tested"),
        ("torch", "2.9.0rc1", "wrong", "older than regionlm asks for (>=2.9)"),
        ("transformers", "4.57.0", "wrong", "older than regionlm asks for (<6,>=5.0)"),
        ("transformers", "6.0.1", "note", "newer than regionlm allows (<6,>=5.0)"),
        ("lightning", "2.5.0", "wrong", 'pip install "lightning>=2.6"'),
        ("numpy", None, "wrong", 'pip install "numpy>=1.26"'),
        ("numpy", "whatever", "wrong", "has no valid version: pip install"),
        ("numpy", "", "wrong", "has no valid version: pip install"),
    ],
)
def test_another_version(
    package: str, version: str | None, state: str, note: str, install: Install
) -> None:
    install(**{package: version})
    row = _row(package)
    assert row.state == state and note in row.note
    assert row.found == {None: "missing", "": "unknown"}.get(version, version)
    assert all(other.state == "ok" for other in versions() if other.name != package)


def test_extras_that_are_there(install: Install) -> None:
    assert list(extras()) == [Row(name, "installed") for name in ("bulk", "train", "dev")]


def test_extras_that_are_missing_are_notes_that_say_how_to_get_them(install: Install) -> None:
    install(lightning=None, pyyaml="5.4")
    rows = {row.name: row for row in extras()}
    assert {row.state for row in rows.values()} == {"note"}
    assert rows["bulk"].note == (
        'needs lightning>=2.6: pip install "regionlm[bulk]" (in a checkout: pip install ".[bulk]")'
    )
    assert rows["train"].note.startswith("needs lightning>=2.6, pyyaml>=6: ")
    assert "lightning" not in {row.name for row in versions()}


def test_tools_of_developers_are_nobodys_fault(install: Install) -> None:
    install(ruff="0.1")
    assert "ruff" not in {row.name for row in versions()}
    assert [row.state for row in extras()] == ["ok", "ok", "note"]


def test_a_checkout_that_was_never_installed(install: Install) -> None:
    install(regionlm=None, numpy=None)
    assert own_version() == "unknown" and list(extras()) == []
    first, *rows = versions()
    assert (first.name, first.state) == ("regionlm", "note")
    assert "torch" in {row.name for row in rows} and all(row.state == "ok" for row in rows)


def test_the_shipped_file_names_all_that_regionlm_needs() -> None:
    rows = list(versions())
    assert {"torch", "transformers", "open_clip_torch"} <= {row.name for row in rows}
    assert all(row.expected for row in rows)
