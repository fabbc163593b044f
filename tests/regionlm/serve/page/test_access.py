"""For everyone: by keyboard, for screen readers, on small and dark screens."""

import os
from pathlib import Path

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from tests.regionlm.serve.page.acts import caption, drag, masks, open_example, take

SMALL = {"viewport": {"width": 360, "height": 740}, "has_touch": True, "is_mobile": True}
SCREENS = {
    "light": {"color_scheme": "light"},
    "dark": {"color_scheme": "dark"},
    "small": SMALL,
    "small dark": {**SMALL, "color_scheme": "dark"},
}


def check(page):
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), "scrolls sideways"


def two_captions(page):
    open_example(page)
    drag(page, (60, 190), (130, 190), (130, 225), (75, 225))
    take(page, "Box")
    drag(page, (178, 138), (312, 252))
    caption(page)
    page.fill("#labels", "a fox, a fish, a book")
    page.click("#compare")
    page.wait_for_selector(".bars")


@pytest.mark.parametrize("screen", SCREENS)
def test_nothing_hinders_and_nothing_scrolls_sideways(visit, server, screen):
    page = visit(server, **SCREENS[screen])
    check(page)
    two_captions(page)
    check(page)
    page.click("[aria-label='Rename Region 1']")
    page.evaluate("document.querySelector('#help').showModal()")
    check(page)
    page.keyboard.press("Escape")
    page.route("**/v1/*", lambda route: route.abort())
    page.click("#caption")
    expect(page.locator("#message")).to_be_visible()
    check(page)


def test_dark_screens_are_dark(visit, server):
    shades = []
    for scheme in ("light", "dark"):
        page = visit(server, color_scheme=scheme)
        shade = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        shades.append(sum(int(one) for one in shade.strip("rgb()").split(",")))
    assert shades[0] > 600 and shades[1] < 150


def test_by_keyboard_alone(page):
    """From opening an example to a second region, its caption and its removal."""
    page.keyboard.press("Tab")
    while page.locator("*:focus").get_attribute("data-example") != "sand":
        page.keyboard.press("Tab")
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    expect(page.locator("#stage")).to_be_focused()
    for key in (
        ["ArrowLeft"] * 8 + ["Shift+ArrowDown", "Space"] + ["Shift+ArrowLeft"] * 2 + ["Space"]
    ):
        page.keyboard.press(key)
    expect(page.locator(".region")).to_have_count(1)
    [mask] = masks(page)
    assert mask[192, 100] and mask[192, 80] and not mask[120, 100]
    page.locator("#stage").focus()
    for key in ["r", "Space", "Shift+ArrowRight", "Shift+ArrowUp", "Space"]:
        page.keyboard.press(key)
    expect(page.locator(".region")).to_have_count(2)
    page.keyboard.press("Control+Enter")
    expect(page.locator("#announcer")).to_contain_text("Region 2: ")
    page.keyboard.press("Delete")
    expect(page.locator(".region")).to_have_count(1)
    page.keyboard.press("Control+z")
    expect(page.locator(".region")).to_have_count(2)
    page.keyboard.press("?")
    expect(page.locator("#help")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#help")).to_be_hidden()


def test_letters_are_shortcuts_of_the_image_alone(page):
    open_example(page)
    page.focus("#labels")
    page.keyboard.type("beer [n]?")
    assert page.input_value("#labels") == "beer [n]?"
    assert page.is_checked("input[value=paint]") and not page.is_visible("#help")


def test_the_picture_of_the_documentation(visit, server, tmp_path):
    """REGIONLM_SCREENSHOTS=1 replaces docs/images/page.png."""
    page = visit(server, viewport={"width": 1180, "height": 800})
    two_captions(page)
    page.fill("#heat", "55")
    expect(page.locator("#heat")).to_have_attribute("aria-valuetext", "map at 55%")
    page.mouse.move(5, 5)
    wanted = os.environ.get("REGIONLM_SCREENSHOTS")
    path = Path("docs/images/page.png") if wanted else tmp_path / "page.png"
    page.screenshot(path=path, animations="disabled")
    assert path.stat().st_size > 20_000
