"""Folders, and a hub that answers, is broken, is silent or is not asked."""

import http.server
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from huggingface_hub import constants

from regionlm.doctor import Row, places
from regionlm.doctor.run_check import run_check


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(places, "PATIENCE", 1.0)


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """A hub on this machine; put the status that it answers with in the list."""
    answers = [200]

    class Hub(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            self.send_response(answers[-1])
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Hub)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setattr(places, "PATIENCE", 60.0)  # it answers, if late
    yield answers
    server.shutdown()
    server.server_close()


@pytest.fixture
def silent(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of something that takes calls and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}"
        monkeypatch.setattr(constants, "ENDPOINT", address)
        yield address


def _asked() -> Row:
    (row,) = places.hub(offline=False)
    return row


def _asked_quickly() -> Row:
    """The same, in a few seconds; the machine may stall, but not three times."""
    for _ in range(3):
        start = time.monotonic()
        row = _asked()
        if time.monotonic() - start < 5:
            return row
    pytest.fail("took long three times")


def test_a_hub_that_answers(serve: list[int]) -> None:
    row = _asked()
    assert (row.found, row.state, row.note) == ("reachable", "ok", constants.ENDPOINT)
    serve.append(404)  # a mirror need not have a front page
    assert _asked().found == "reachable"
    serve.append(503)
    row = _asked()
    assert (row.found, row.state) == ("not reachable", "note") and "status 503" in row.note


def test_a_silent_hub_is_not_waited_for(silent: str) -> None:
    row = _asked_quickly()
    assert (row.found, row.state) == ("not reachable", "note") and silent in row.note


def test_a_name_that_is_looked_up_forever_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stuck = threading.Event()
    monkeypatch.setattr(places, "_ask", lambda address: str(stuck.wait()))
    row = _asked()
    stuck.set()
    assert (row.found, row.state) == ("not reachable", "note")
    assert "no answer in 1 seconds" in row.note


def test_a_hub_that_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    monkeypatch.setattr(places, "PATIENCE", 60.0)
    row = _asked_quickly()
    assert (row.found, row.state) == ("not reachable", "note") and "Error" in row.note


@pytest.mark.parametrize(("offline", "why"), [(True, "--offline"), (False, "HF_HUB_OFFLINE")])
def test_who_is_offline_by_choice_is_not_asked_for(
    offline: bool, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask(address: str) -> str:
        raise AssertionError("asked")

    monkeypatch.setattr(places, "_problem", ask)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", not offline)
    (row,) = places.hub(offline)
    assert (row.found, row.state) == ("not asked", "ok") and why in row.note


def _models(path: Path, monkeypatch: pytest.MonkeyPatch) -> Row:
    monkeypatch.setenv("REGIONLM_MODELS", str(path))
    return next(row for row in places.own_folders() if row.name == "models")


def test_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = _models(tmp_path, monkeypatch)
    assert row.found == str(tmp_path) and row.state == "ok"
    assert row.note.startswith("exists, ") and row.note.endswith(" GB free")
    assert _models(tmp_path / "not" / "there", monkeypatch).note == "does not exist yet"
    assert list(tmp_path.iterdir()) == []


def test_a_file_in_a_folders_place_is_wrong(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models").write_text("")
    row = _models(tmp_path / "models", monkeypatch)
    assert row.state == "wrong" and "set REGIONLM_MODELS" in row.note


def test_folders_that_cannot_be_written_are_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may write anywhere
    assert _models(tmp_path, monkeypatch).note == "exists, but is not writable"
    row = _models(tmp_path / "models", monkeypatch)
    assert row.state == "note" and f"{tmp_path} is not writable" in row.note


def test_all_folders_are_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGIONLM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    rows = run_check("a", places.hub_cache) + run_check("b", places.own_folders)
    assert [row.name for row in rows] == ["hub's files", "models", "pictograms"]
    assert [rows[0].found, rows[2].found] == [str(tmp_path / "hub"), str(tmp_path / "cache")]
