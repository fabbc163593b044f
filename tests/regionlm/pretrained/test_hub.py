"""Uploads to and downloads from hubs of our own on this machine; one keeps what arrives."""

import base64
import hashlib
import json
import threading
import warnings
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from regionlm import RegionCaptioner, RegionEncoder
from regionlm.errors import InputError, ModelError

TOKEN = "hf_of_nobody"
COMMIT = "1" * 40


class Hub(ThreadingHTTPServer):
    """The hub's part of create_repo and upload_folder, for one model repository.

    large: how it wants safetensors: "lfs", by the basic transfer of Git LFS, or "regular".
    """

    def __init__(self, large: str) -> None:
        super().__init__(("127.0.0.1", 0), Answers)
        self.large, self.url = large, f"http://127.0.0.1:{self.server_port}"
        self.repository: dict = {}
        self.blobs: dict[str, bytes] = {}
        self.files: dict[str, bytes] = {}
        self.refused: int | None = None
        self.message = ""


class Answers(BaseHTTPRequestHandler):
    server: Hub

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._say({"error": "who are you?"}, 401)
        elif self.server.refused is not None:
            self._say({"error": "not you"}, self.server.refused)
        elif self.path == "/api/repos/create":
            self.server.repository = json.loads(body)
            self._say({"url": f"{self.server.url}/me/mine"})
        elif self.path == "/api/validate-yaml":
            self._say({"warnings": [], "errors": []})
        elif self.path == "/api/models/me/mine/preupload/main":
            self._say({"files": [self._mode(file) for file in json.loads(body)["files"]]})
        elif self.path == "/me/mine.git/info/lfs/objects/batch":
            self._say({"objects": [self._place(one) for one in json.loads(body)["objects"]]})
        elif self.path == "/api/models/me/mine/commit/main":
            for line in body.splitlines():
                self._commit(**json.loads(line))
            commit = f"{self.server.url}/me/mine/commit/{'0' * 40}"
            self._say({"success": True, "commitOid": "0" * 40, "commitUrl": commit})
        else:
            self._say({"error": f"no such place: {self.path}"}, 404)

    def do_PUT(self) -> None:
        data = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.blobs[hashlib.sha256(data).hexdigest()] = data
        self._say({})

    def _mode(self, file: dict) -> dict:
        large = file["path"].endswith(".safetensors")
        mode = self.server.large if large else "regular"
        return {"path": file["path"], "uploadMode": mode, "shouldIgnore": False, "oid": None}

    def _place(self, file: dict) -> dict:
        return {**file, "actions": {"upload": {"href": f"{self.server.url}/blobs/{file['oid']}"}}}

    def _commit(self, key: str, value: dict) -> None:
        if key == "file":
            self.server.files[value["path"]] = base64.b64decode(value["content"])
        elif key == "lfsFile":
            self.server.files[value["path"]] = self.server.blobs[value["oid"]]
        elif key == "header":
            self.server.message = value["summary"]

    def _say(self, answer: dict, status: int = 200) -> None:
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(params=["lfs", "regular"])
def hub(request, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    # Xet, the hub's other way to take large files, speaks to servers of its own.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_XET", request.param == "lfs")
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with Hub(request.param) as server:
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", server.url)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def _files(folder: Path) -> dict[str, bytes]:
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("private", [True, False])
def test_a_bundle_arrives_whole(private, hub, tmp_path):
    captioner = RegionCaptioner.from_pretrained("mini", device="cpu")
    captioner.card = "---\nlicense: apache-2.0\n---\n\n# Mine\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        url = captioner.push_to_hub("me/mine", private=private)
    assert url == f"{hub.url}/me/mine/commit/{'0' * 40}"
    assert hub.repository["organization"] == "me" and hub.repository["name"] == "mine"
    asked = hub.repository.get("private", hub.repository.get("visibility") == "private")
    assert bool(asked) == private
    captioner.save_pretrained(tmp_path / "saved")
    assert hub.files == _files(tmp_path / "saved")
    assert (len(hub.blobs) > 0) == (hub.large == "lfs")
    for path, data in hub.files.items():
        (tmp_path / "arrived" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "arrived" / path).write_bytes(data)
    again = RegionCaptioner.from_pretrained(tmp_path / "arrived", device="cpu")
    assert again.card == captioner.card


@pytest.mark.parametrize("status", [401, 403])
def test_a_hub_that_refuses_is_one_line(status, hub):
    hub.refused = status
    captioner = RegionCaptioner.from_pretrained("mini", device="cpu")
    with pytest.raises(ModelError, match=r"^cannot push to me/mine: ") as raised:
        captioner.push_to_hub("me/mine")
    assert "\n" not in str(raised.value) and not hub.files


def test_branch_message_and_token_reach_the_hub(hub, monkeypatch):
    monkeypatch.delenv("HF_TOKEN")
    captioner = RegionCaptioner.from_pretrained("mini", device="cpu")
    captioner.push_to_hub("me/mine", token=TOKEN, commit_message="Better", branch="main")
    assert hub.message == "Better"


class Mine(RegionCaptioner):
    pass


def test_a_bundle_is_downloaded_at_a_revision(hub_of, tmp_path):
    RegionCaptioner.from_pretrained("mini", device="cpu").save_pretrained(tmp_path / "saved")
    served = hub_of(tmp_path / "saved")
    found = Mine.from_pretrained(
        "me/mine", device="cpu", revision="v1", cache_dir=tmp_path / "cache"
    )
    assert type(found) is Mine and found.name == "mini"
    assert served.revisions <= {"v1", COMMIT} and "v1" in served.revisions
    assert not (tmp_path / "hub").exists()
    again = {"revision": "v1", "cache_dir": tmp_path / "cache", "offline": True}
    assert Mine.from_pretrained("me/mine", device="cpu", **again).name == "mini"
    with pytest.raises(ModelError, match="no model 'me/mine' of revision 'v2' in the local"):
        Mine.from_pretrained("me/mine", revision="v2", cache_dir=tmp_path / "cache", offline=True)


def test_a_backbone_is_downloaded_at_a_revision(hub_of, tmp_path):
    RegionCaptioner.from_pretrained("mini", device="cpu").save_pretrained(tmp_path / "saved")
    served = hub_of(tmp_path / "saved")
    options = {"device": "cpu", "cache_dir": tmp_path / "cache"}
    found = RegionEncoder.from_pretrained("me/mine", revision="v1", **options)
    assert isinstance(found, RegionEncoder) and "v1" in served.revisions
    assert served.revisions <= {"v1", COMMIT} and not (tmp_path / "hub").exists()
    RegionEncoder.from_pretrained("me/mine", revision="v1", offline=True, **options)
    for source in ("me/mine", "hf-hub:me/mine"):
        with pytest.raises(ModelError, match="no model 'me/mine' of revision 'v2'"):
            RegionEncoder.from_pretrained(source, revision="v2", offline=True, **options)


@pytest.mark.parametrize("kind", [RegionCaptioner, RegionEncoder])
def test_options_of_the_hub_are_for_hub_ids(kind):
    said = r"^revision: only a hub id has one, and mini is none; leave it out$"
    with pytest.raises(InputError, match=said):
        kind.from_pretrained("mini", revision="v1")
    with pytest.raises(InputError, match=r"^revison: not an option of from_pretrained"):
        kind.from_pretrained("me/mine", revison="v1")


def test_save_pretrained_has_no_options_of_the_hub(tmp_path):
    captioner = RegionCaptioner.from_pretrained("mini", device="cpu")
    with pytest.raises(InputError, match=r"^push_to_hub: not an option of save_pretrained"):
        captioner.save_pretrained(tmp_path / "saved", push_to_hub=True)
    assert not (tmp_path / "saved").exists()
