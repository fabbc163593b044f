"""The page's files: sent by their names alone, under a strict policy, and complete."""

import re
from importlib.resources import files

import pytest
from fastapi.testclient import TestClient

from regionlm.serve.app import create_app
from regionlm.serve.net.tokens import VARIABLE
from regionlm.serve.page.router import PAGE_PATHS

STATIC = files("regionlm.serve.page") / "static"


@pytest.mark.parametrize("path", PAGE_PATHS)
def test_files_are_sent_with_their_type_and_a_strict_policy(client, path):
    reply = client.get(path)
    assert reply.status_code == 200 and reply.content
    policy = reply.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'") and "unsafe" not in policy
    assert reply.headers["x-content-type-options"] == "nosniff"
    if path.endswith(".js"):
        assert reply.headers["content-type"].startswith("text/javascript")


def test_a_file_that_has_not_changed_is_not_sent_again(client):
    tag = client.get("/").headers["etag"]
    again = client.get("/", headers={"If-None-Match": tag})
    assert again.status_code == 304 and not again.content


@pytest.mark.parametrize("path", ["/page/router.py", "/page/../router.py", "/page/%2e%2e/a", "/x"])
def test_nothing_else_is_sent(client, path):
    assert client.get(path).status_code == 404


def test_the_page_needs_no_token_but_questions_do(engine, monkeypatch):
    monkeypatch.setenv(VARIABLE, "secret")
    with TestClient(create_app(engine)) as client:
        assert {client.get(path).status_code for path in PAGE_PATHS} == {200}
        assert client.post("/v1/caption", json={}).status_code == 401


def test_files_refer_to_files_that_are_sent_and_to_no_other_host():
    for path in PAGE_PATHS:
        name = path.removeprefix("/page/").lstrip("/") or "index.html"
        if name.endswith(".jpg"):
            continue
        text = (STATIC / name).read_text(encoding="utf-8")
        assert not re.findall(r"https?://(?!www\.w3\.org/)", text), name
        for other in re.findall(r'from "\./([^"]+)"', text):
            assert f"/page/{other}" in PAGE_PATHS, name
        for other in re.findall(r'(?:src|href)="(page/[^"]+)"', text):
            assert f"/{other}" in PAGE_PATHS, name
