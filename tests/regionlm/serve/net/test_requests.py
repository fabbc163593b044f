"""Every request gets an id and a line, and a reply even to an error that nobody expected."""

import asyncio
import io
import json

import pytest

from regionlm.serve.net.log_lines import LogLines
from regionlm.serve.net.requests import Failures, Requests


async def _answer(scope, receive, send):
    await send({"type": "http.response.start", "status": 201, "headers": [(b"a", b"b")]})
    await send({"type": "http.response.body", "body": b"four", "more_body": True})
    await send({"type": "http.response.body", "body": scope["state"]["request_id"].encode()})


async def _fail(scope, receive, send):
    raise RuntimeError("secret of /etc/regionlm")


async def _fail_late(scope, receive, send):
    await send({"type": "http.response.start", "status": 200, "headers": []})
    raise RuntimeError("secret")


async def _leave(scope, receive, send):
    raise asyncio.CancelledError


def ask(app, *ids, path="/v1/caption"):
    """What is sent, and the lines that are logged."""
    sent, stream = [], io.BytesIO()
    log = LogLines(stream)
    scope = {
        "type": "http",
        "method": "POST",
        "path": path,
        "query_string": b"token=secret",
        "headers": [(b"x-request-id", one) for one in ids],
    }

    async def send(message):
        sent.append(message)

    try:
        asyncio.run(Requests(Failures(app), log=log)(scope, None, send))
    except (RuntimeError, asyncio.CancelledError) as error:
        sent.append(error)
    log.close()
    return sent, [json.loads(line) for line in stream.getvalue().splitlines()]


def id_of(message):
    return dict(message["headers"])[b"x-request-id"]


def test_a_line_says_what_happened_and_nothing_that_was_sent():
    sent, (line,) = ask(_answer)
    assert set(line) == {"time", "id", "method", "path", "status", "ms", "bytes"}
    assert (line["method"], line["path"], line["status"]) == ("POST", "/v1/caption", 201)
    assert line["bytes"] == 4 + len(line["id"]) and line["ms"] >= 0
    assert id_of(sent[0]).decode() == line["id"] and (b"a", b"b") in sent[0]["headers"]


@pytest.mark.parametrize("given", [b"a", b"9f8-A_.", b"x" * 64])
def test_a_sane_id_of_the_client_is_kept(given):
    sent, (line,) = ask(_answer, given)
    assert id_of(sent[0]) == given == line["id"].encode() == sent[-1]["body"]


@pytest.mark.parametrize("given", [[b""], [b"x" * 65], [b'a"b'], [b"a\n"], [b"\xff"], [b"a", b"b"]])
def test_another_is_replaced(given):
    sent, (line,) = ask(_answer, *given)
    assert id_of(sent[0]) not in given and len(line["id"]) == 32


def test_an_error_in_the_service_is_replied_to_without_its_insides(caplog):
    sent, (line,) = ask(_fail)
    start, body = sent
    error = json.loads(body["body"])["error"]
    assert start["status"] == 500 == line["status"] and error["type"] == "server_error"
    assert "secret" not in str(sent) and line["id"] in error["message"]
    assert "secret" in caplog.text and line["id"] in caplog.text  # for the operator


def test_half_a_reply_is_cut_off_not_ended():
    sent, (line,) = ask(_fail_late)
    assert isinstance(sent[-1], RuntimeError) and line["status"] == 200


def test_a_client_that_left_before_the_reply_gets_a_line():
    assert ask(_leave)[1][0]["status"] == 499


def test_long_paths_are_cut():
    assert len(ask(_answer, path="/" + 1000 * "x")[1][0]["path"]) == 200
