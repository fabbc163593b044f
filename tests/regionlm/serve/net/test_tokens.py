"""Tokens are read from a file and the environment, and without one nobody gets past."""

import asyncio
import json

import pytest

from regionlm.errors import InputError
from regionlm.serve.net.tokens import BearerTokens, read_tokens


def test_tokens_come_from_the_file_and_the_environment(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("# ours\nfirst\n\n  second  \n")
    assert read_tokens(file, {"REGIONLM_TOKENS": "third,fourth\nfifth"}) == [
        *("first", "second", "third", "fourth", "fifth")
    ]
    assert read_tokens(None, {}) == []


@pytest.mark.parametrize("content", ["", "# none\n", "two words\n", "t\xf6ken\n", "a\x00b"])
def test_a_file_that_would_leave_the_service_open_is_refused(tmp_path, content):
    file = tmp_path / "tokens"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match="tokens: "):
        read_tokens(file, {})


def test_a_missing_file_and_an_empty_variable_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_tokens(tmp_path / "none", {})
    with pytest.raises(InputError, match="REGIONLM_TOKENS: expected at least one"):
        read_tokens(None, {"REGIONLM_TOKENS": ""})


def test_messages_show_no_token(tmp_path):
    file = tmp_path / "tokens"
    file.write_text("good\nvery secret\n")
    with pytest.raises(InputError) as caught:
        read_tokens(file, {})
    assert "secret" not in str(caught.value) and "token 2" in str(caught.value)


async def _answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"in"})


def ask(path="/v1/caption", *authorization, kind="http"):
    """What the middleware sends back."""
    headers = [(b"authorization", value) for value in authorization]
    sent = []

    async def send(message):
        sent.append(message)

    app = BearerTokens(_answer, tokens=["one", "two"])
    asyncio.run(app({"type": kind, "path": path, "headers": headers}, None, send))
    return sent


@pytest.mark.parametrize("value", [b"Bearer one", b"Bearer two", b"bearer  two ", b"BEARER one"])
def test_a_token_lets_in(value):
    assert ask("/v1/caption", value)[0]["status"] == 200


@pytest.mark.parametrize(
    "values",
    [
        *([], [b""], [b"Bearer"], [b"Bearer "], [b"Bearer three"], [b"Bearer on"], [b"one"]),
        *([b"Basic one"], [b"Bearer one two"], [b"Bearer one", b"Bearer two"], [b"Bearer \xff"]),
    ],
)
def test_anything_else_does_not(values):
    start, body = ask("/v1/caption", *values)
    assert start["status"] == 401 and (b"www-authenticate", b"Bearer") in start["headers"]
    assert json.loads(body["body"])["error"]["code"] == "invalid_api_key"


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_health_and_readiness_need_none(path):
    assert ask(path)[0]["status"] == 200


@pytest.mark.parametrize(
    "path",
    ["/", "/docs", "/metrics", "/v1/models", "/health/", "/health/../v1/caption", "//health"],
)
def test_all_other_paths_do(path):
    assert ask(path)[0]["status"] == 401


def test_websockets_are_closed_and_the_lifespan_passes():
    assert ask(kind="websocket") == [{"type": "websocket.close", "code": 1008}]
    assert ask(kind="lifespan")[0]["status"] == 200
