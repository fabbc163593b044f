"""Id and log, then CORS, then tokens: in that order around an application."""

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.testclient import TestClient

from regionlm.errors import InputError
from regionlm.serve.net.guards import add_guards

ORIGIN = {"Origin": "https://page.example.org"}
PREFLIGHT = {**ORIGIN, "Access-Control-Request-Method": "POST"}
PREFLIGHT["Access-Control-Request-Headers"] = "authorization,x-stainless-lang"


def client(**guards):
    def hello(request):
        return PlainTextResponse("hello")

    def fail(request):
        raise RuntimeError("secret")

    app = Starlette(routes=[Route("/hello", hello, methods=["GET", "POST"]), Route("/fail", fail)])
    add_guards(app, **guards)
    return TestClient(app)


def test_without_origins_no_page_may_read_a_reply():
    reply = client().get("/hello", headers=ORIGIN)
    assert not [name for name in reply.headers if name.startswith("access-control")]
    assert client().options("/hello", headers=PREFLIGHT).status_code == 405


def test_a_named_page_may_ask_with_a_token():
    asked = client(origins=["https://page.example.org"], tokens=["one"])
    assert asked.options("/hello", headers=PREFLIGHT).status_code == 200
    refused = asked.get("/hello", headers=ORIGIN)
    assert refused.status_code == 401
    assert refused.headers["access-control-allow-origin"] == ORIGIN["Origin"]
    assert "X-Request-ID" in refused.headers["access-control-expose-headers"]
    let_in = asked.get("/hello", headers={**ORIGIN, "Authorization": "Bearer one"})
    assert let_in.text == "hello"


def test_a_named_page_may_read_of_errors_in_the_service():
    reply = client(origins=["https://page.example.org"]).get("/fail", headers=ORIGIN)
    assert reply.status_code == 500
    assert reply.headers["access-control-allow-origin"] == ORIGIN["Origin"]


def test_another_page_may_not():
    asked = client(origins=["https://page.example.org"])
    reply = asked.options("/hello", headers={**PREFLIGHT, "Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in reply.headers


def test_every_reply_has_an_id():
    asked = client(origins=["https://page.example.org"], tokens=["one"])
    token = {"Authorization": "Bearer one", "X-Request-ID": "mine"}
    for path, status in {"/hello": 200, "/none": 404, "/fail": 500}.items():
        reply = asked.get(path, headers=token)
        assert (reply.status_code, reply.headers["X-Request-ID"]) == (status, "mine")
    assert asked.get("/hello").headers["X-Request-ID"]
    assert asked.options("/hello", headers=PREFLIGHT).headers["X-Request-ID"]


@pytest.mark.parametrize("origin", ["page.example.org", "https://a.org/", "https://a.org/x", ""])
def test_what_is_no_origin_is_refused(origin):
    with pytest.raises(InputError, match="cors_origins"):
        client(origins=[origin])
