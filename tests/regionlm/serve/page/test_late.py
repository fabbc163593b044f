"""What comes late: a click's region, an image, a caption, while the person goes on."""

import pytest
from playwright.sync_api import expect

from tests.regionlm.serve.page.acts import caption, drag, masks, open_example, record, take

CHANGED = "changed meanwhile"

# The first image to be decoded waits until letOpen() is called, and says when it is open.
SLOW_FIRST_IMAGE = """() => {
    const decode = Image.prototype.decode;
    let count = 0;
    Image.prototype.decode = async function () {
        const isFirst = ++count === 1;
        if (isFirst) await new Promise((resolve) => (window.letOpen = resolve));
        await decode.call(this);
        if (isFirst) setTimeout(() => (window.isOpen = true), 50);
    };
}"""

# Captions are what the test sends with send().
SENT_BY_HAND = """() => {
    const { fetch } = window;
    const sent = (signal) => new ReadableStream({ start(control) {
        signal.addEventListener("abort", () => control.error(signal.reason));
        window.send = (event, data) => {
            const text = `event: ${event}\\ndata: ${JSON.stringify(data)}\\n\\n`;
            control.enqueue(new TextEncoder().encode(text));
        };
    } });
    window.fetch = async (path, how) =>
        path === "v1/caption" ? new Response(sent(how.signal)) : fetch(path, how);
}"""


@pytest.fixture
def held(page):
    """Questions about clicks, which wait until the test lets them go on."""
    found = []
    page.route("**/v1/segment", lambda route: found.append(route))
    return found


def until(page, expression):
    """Wait until it holds; the page's policy forbids wait_for_function, which evaluates text."""
    for _ in range(6000):
        if page.evaluate(f"Boolean({expression})"):
            return
        page.wait_for_timeout(20)
    pytest.fail(f"never: {expression}")


def click(page, place, held):
    """Click, and wait until the server is asked."""
    take(page, "Click")
    with page.expect_request("**/v1/segment"):
        drag(page, place)
    while not held:
        page.wait_for_timeout(10)


def let_go(page, held):
    with page.expect_response("**/v1/segment"):
        held.pop().continue_()


def test_what_is_painted_while_a_click_waits_is_kept(page, held):
    open_example(page)
    drag(page, (60, 190), (130, 190))
    take(page, "Click")
    take(page, "Add")
    click(page, (250, 60), held)
    take(page, "Paint")
    drag(page, (60, 280), (130, 280))
    let_go(page, held)
    expect(page.locator("#status")).to_contain_text("SAM")
    [mask] = masks(page)
    assert mask[190, 90] and mask[280, 90] and mask[60, 250]


def test_a_click_on_a_region_that_is_undone_meanwhile_is_dropped(page, held):
    open_example(page)
    click(page, (100, 190), held)
    let_go(page, held)
    expect(page.locator(".region")).to_have_count(1)
    take(page, "Add")
    click(page, (200, 100), held)
    page.click("#undo")
    let_go(page, held)
    expect(page.locator("#status")).to_contain_text(CHANGED)
    assert page.locator(".region").count() == 0
    assert page.is_disabled("#undo") and page.is_enabled("#redo")


@pytest.mark.parametrize("tool", ["Paint", "Box"])
def test_a_stroke_on_a_region_that_is_undone_meanwhile_is_dropped(page, tool):
    open_example(page)
    drag(page, (60, 190), (130, 190))
    take(page, tool)
    if tool == "Box":
        take(page, "Add")
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 50, box["y"] + 50)
    page.mouse.down()
    page.keyboard.press("Control+z")
    expect(page.locator("#status")).to_contain_text(CHANGED)
    page.mouse.move(box["x"] + 99, box["y"] + 99, steps=3)
    page.mouse.up()
    assert page.locator(".region").count() == 0
    assert page.is_disabled("#undo")
    page.click("#redo")
    [mask] = masks(page)
    assert mask[190, 90]


@pytest.mark.parametrize("end", ["Escape", "another image"])
def test_a_click_that_gets_no_answer_can_be_given_up(page, held, end):
    open_example(page)
    click(page, (100, 190), held)
    if end == "Escape":
        page.keyboard.press("Escape")
        expect(page.locator("#status")).to_have_text("")
    else:
        open_example(page, "snow")
        expect(page.locator("#status")).to_contain_text("snow.jpg")
    held.clear()
    click(page, (100, 190), held)
    let_go(page, held)
    expect(page.locator(".region")).to_have_count(1)
    assert not page.is_visible("#message")


def test_the_image_chosen_last_is_the_one_that_stays(page):
    page.evaluate(SLOW_FIRST_IMAGE)
    page.click("[data-example=sand]")
    until(page, "window.letOpen")
    open_example(page, "snow")
    drag(page, (60, 190), (130, 190))
    page.evaluate("letOpen()")
    until(page, "window.isOpen")
    said = record(page)
    assert said["image"] == "snow.jpg" and len(said["regions"]) == 1
    assert page.is_enabled("#undo")


def test_a_name_is_typed_while_captions_come(page):
    open_example(page)
    page.evaluate(SENT_BY_HAND)
    drag(page, (60, 190), (130, 190))
    page.click("#caption")
    until(page, "window.send")
    page.click("[aria-label='Rename Region 1']")
    for word in ("my", " red", " fox"):
        page.keyboard.type(word)
        page.evaluate("text => send('piece', { index: 0, text })", word)
        expect(page.locator(".caption")).to_contain_text(word)
    assert page.input_value("#regions input") == "my red fox"
    page.keyboard.press("Enter")
    assert page.locator("#regions .name").inner_text() == "my red fox"
    row = {"caption": "a fox", "logprob": -1, "dice": None, "iou": None, "cosine_to_image": 0.5}
    page.evaluate("row => send('region', { index: 0, ...row })", row)
    page.evaluate("send('done', {})")
    expect(page.locator("#caption")).to_have_text("Caption again")
    assert record(page)["answers"][0]["region"] == "my red fox"


def test_a_name_that_is_typed_goes_with_its_image(page):
    open_example(page)
    drag(page, (60, 190), (130, 190))
    page.click("[aria-label='Rename Region 1']")
    page.keyboard.type("fox")
    page.evaluate("document.querySelector('[data-example=snow]').click()")  # the field keeps focus
    expect(page.locator("#status")).to_contain_text("snow.jpg")
    assert page.locator("#regions *").count() == 0 and page.is_disabled("#undo")


@pytest.mark.parametrize("what", ["a name", "the shortcuts"])
def test_escape_closes_what_is_open_and_captions_go_on(page, what):
    open_example(page)
    page.evaluate(SENT_BY_HAND)
    drag(page, (60, 190), (130, 190))
    page.click("#caption")
    until(page, "window.send")
    page.click("#help-button" if what == "the shortcuts" else "[aria-label='Rename Region 1']")
    opened = page.locator("#help" if what == "the shortcuts" else "#regions input")
    expect(opened).to_be_visible()
    page.keyboard.press("Escape")
    expect(opened).to_be_hidden()
    assert page.locator("#regions .name").inner_text() == "Region 1"
    page.evaluate("send('piece', { index: 0, text: 'a fox' })")
    expect(page.locator(".writing")).to_have_text("a fox")
    page.keyboard.press("Escape")
    expect(page.locator("#caption")).to_have_text("Caption")
    assert page.locator(".writing").count() == 0


@pytest.mark.parametrize("end", ["Stop", "Escape", "another image"])
def test_a_comparison_can_be_given_up(page, end):
    open_example(page)
    drag(page, (60, 190), (130, 190))
    waiting = []
    page.route("**/v1/match", lambda route: waiting.append(route))
    page.fill("#labels", "a fox, a book")
    page.click("#compare")
    expect(page.locator("#compare")).to_have_text("Stop")
    if end == "Stop":
        page.click("#compare")
    elif end == "Escape":
        page.keyboard.press("Escape")
    else:
        open_example(page, "snow")
        drag(page, (60, 190), (130, 190))
    expect(page.locator("#compare")).to_have_text("Compare")
    assert not page.is_visible("#message") and page.locator(".bars").count() == 0
    page.unroute("**/v1/match")
    page.click("#compare")
    expect(page.locator(".bars")).to_be_visible()


@pytest.mark.parametrize("end", ["stopped", "failed"])
def test_captions_stay_until_others_are_there(page, end):
    open_example(page)
    drag(page, (60, 190), (130, 190))
    [text] = caption(page)
    before = record(page)["answers"]
    page.route("**/v1/caption", lambda route: None if end == "stopped" else route.abort())
    page.click("#caption")
    if end == "stopped":
        expect(page.locator(".writing")).to_be_visible()
        assert record(page)["answers"] == before
        page.keyboard.press("Escape")
    else:
        expect(page.locator("#message")).to_be_visible()
    expect(page.locator("#caption")).to_have_text("Caption again")
    assert page.locator(".caption").all_inner_texts() == [text]
    assert page.is_visible(".trust") and record(page)["answers"] == before
