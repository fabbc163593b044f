"""What the page says when the server is gone, busy, asks for a token or refuses."""

import json

import pytest
from playwright.sync_api import expect

from regionlm.serve.net.tokens import VARIABLE
from tests.regionlm.serve.page.acts import caption, drag, masks, open_example, take
from tests.regionlm.serve.page.conftest import serving


def marked(page):
    open_example(page)
    drag(page, (60, 190), (130, 190))
    return page


def refusing(page, status, message="said by the server", **more):
    """Let the server refuse everything."""
    headers = {"Content-Type": "application/json", **more}
    body = json.dumps({"error": {"message": message, "type": "x", "param": None, "code": None}})
    page.route("**/v1/*", lambda route: route.fulfill(status=status, body=body, headers=headers))


def test_a_server_that_is_gone_is_said_and_asked_again_when_it_is_back(visit, tmp_path):
    with serving(tmp_path) as process:
        url = process.url
        page = marked(visit(url))
    page.click("#caption")
    expect(page.locator("#message")).to_contain_text("Is regionlm serve still running?")
    expect(page.locator("#caption")).to_have_text("Caption")
    with serving(tmp_path, "--port", url.rpartition(":")[2]):
        page.click("#retry")
        expect(page.locator(".trust")).to_be_visible()
        expect(page.locator("#message")).to_be_hidden()


def test_a_token_is_asked_for_and_kept(visit, tmp_path):
    with serving(tmp_path, **{VARIABLE: "secret"}) as process:
        page = marked(visit(process.url))
        page.click("#caption")
        expect(page.locator("#token")).to_be_focused()
        page.keyboard.type("wrong")
        with page.expect_response("**/v1/caption"):
            page.keyboard.press("Enter")
        expect(page.locator("#token")).to_be_focused()
        expect(page.locator("#token")).to_have_value("")
        page.keyboard.type("secret")
        page.keyboard.press("Enter")
        expect(page.locator(".trust")).to_be_visible()
        page.reload()
        assert caption(marked(page))


def test_a_busy_server_is_asked_again_after_the_time_that_it_says(page):
    marked(page)
    refusing(page, 429, **{"Retry-After": "1"})
    page.click("#caption")
    expect(page.locator("#message")).to_contain_text("too much to do")
    page.unroute("**/v1/*")
    expect(page.locator(".trust")).to_be_visible()
    expect(page.locator("#message")).to_be_hidden()


def test_escape_ends_the_wait_for_a_busy_server(page):
    page.clock.install()
    marked(page)
    refusing(page, 429, **{"Retry-After": "60"})
    page.click("#caption")
    expect(page.locator("#message")).to_contain_text("Trying again in 60 s")
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.keyboard.press("Escape")
    expect(page.locator("#message")).to_be_hidden()
    page.clock.run_for(120_000)  # ms
    assert not page.is_visible("#message") and not asked


@pytest.mark.parametrize("failure", ["busy", "gone", "token"])
def test_a_click_that_failed_is_tried_again_and_its_region_kept(page, failure):
    open_example(page)
    take(page, "Click")
    if failure == "gone":
        page.route("**/v1/*", lambda route: route.abort("connectionrefused"))
    else:
        refusing(page, 429 if failure == "busy" else 401, **{"Retry-After": "1"})
    drag(page, (80, 190))
    expect(page.locator("#message")).to_be_visible()
    page.unroute("**/v1/*")
    if failure == "gone":
        page.click("#retry")
    if failure == "token":
        expect(page.locator("#token")).to_be_focused()
        page.keyboard.type("secret")
        page.keyboard.press("Enter")
    expect(page.locator(".region")).to_have_count(1)
    expect(page.locator("#message")).to_be_hidden()
    assert masks(page)[0][190, 80]


def test_an_example_that_does_not_come_is_said_and_tried_again(page):
    page.route("**/page/examples/*", lambda route: route.abort("connectionrefused"))
    page.click("[data-example=snow]")
    expect(page.locator("#message")).to_contain_text("Is regionlm serve still running?")
    page.unroute("**/page/examples/*")
    page.click("#retry")
    expect(page.locator("#stage")).to_be_focused()
    expect(page.locator("#message")).to_be_hidden()


def test_a_refusal_is_shown_in_the_server_s_words(page):
    marked(page)
    refusing(page, 422, message="image: too many pixels <b>here</b>")
    page.click("#caption")
    expect(page.locator("#message-text")).to_have_text("image: too many pixels <b>here</b>")
    assert not page.is_visible("#retry")
    page.click("#dismiss")
    assert not page.is_visible("#message")


def test_an_answer_that_breaks_off_is_said(page):
    marked(page)
    page.route(
        "**/v1/caption",
        lambda route: route.fulfill(
            body='event: piece\ndata: {"index": 0, "region": "x", "text": "a"}\n\n',
            headers={"Content-Type": "text/event-stream"},
        ),
    )
    page.click("#caption")
    expect(page.locator("#message")).to_contain_text("stopped in the middle")
    assert page.locator(".writing").count() == 0


def test_captions_can_be_stopped(page):
    marked(page)
    page.route("**/v1/caption", lambda route: None)  # no answer, ever
    page.click("#caption")
    expect(page.locator("#caption")).to_have_text("Stop")
    page.click("#caption")
    expect(page.locator("#caption")).to_have_text("Caption")
    assert not page.is_visible("#message")
