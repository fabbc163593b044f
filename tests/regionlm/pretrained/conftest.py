"""A hub on this machine, for downloads."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

COMMIT = "1" * 40


class DownloadHub(ThreadingHTTPServer):
    """The hub's part of a download: one repository's files, and what was asked for of them."""

    def __init__(self, files: dict[str, bytes]) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.files, self.fetched, self.revisions = files, set[str](), set[str]()


class Answers(BaseHTTPRequestHandler):
    server: DownloadHub

    def do_HEAD(self) -> None:
        self.do_GET()

    def do_GET(self) -> None:
        path, _, _ = self.path.partition("?")
        if path.startswith("/api/models/me/mine/tree/"):
            sizes = {name: len(data) for name, data in self.server.files.items()}
            files = [
                {"type": "file", "path": name, "size": sizes[name], "oid": ""} for name in sizes
            ]
            self._say(json.dumps(files).encode())
            return
        if path.startswith("/api/models/me/mine"):
            siblings = [{"rfilename": name} for name in self.server.files]
            about = {"id": "me/mine", "modelId": "me/mine", "sha": COMMIT, "siblings": siblings}
            self._say(json.dumps(about).encode())
            return
        revision, _, name = path.partition("/resolve/")[2].partition("/")
        if name in self.server.files:
            self.server.fetched.add(name)
            self.server.revisions.add(revision)
            self._say(self.server.files[name], name)
        else:
            self.send_response(404)
            self.send_header("X-Error-Code", "EntryNotFound")
            self.send_header("X-Repo-Commit", COMMIT)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _say(self, data: bytes, tag: str = "") -> None:
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.send_header("X-Repo-Commit", COMMIT)
        self.send_header("ETag", f'"{tag}"')
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def hub_of(monkeypatch, tmp_path):
    """Starts a hub with the files of a folder; its cache is empty."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    started = []

    def start(folder: Path) -> DownloadHub:
        hub = DownloadHub(
            {
                path.relative_to(folder).as_posix(): path.read_bytes()
                for path in folder.rglob("*")
                if path.is_file()
            }
        )
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{hub.server_port}"
        monkeypatch.setenv("HF_ENDPOINT", url)
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", url)
        monkeypatch.setattr(
            "huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE",
            url + "/{repo_id}/resolve/{revision}/{filename}",
        )
        started.append(hub)
        return hub

    yield start
    for hub in started:
        hub.shutdown()
        hub.server_close()
