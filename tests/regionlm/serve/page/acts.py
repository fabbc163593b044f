"""What a person does on the page."""

import json
import re

from playwright.sync_api import expect

from regionlm.inputs.coco_masks import rle_mask

expect.set_options(timeout=120_000)  # ms; a loaded machine is slow
SIDE = 320  # of the examples, pixels


def open_example(page, name="sand"):
    page.click(f"[data-example={name}]")
    expect(page.locator("#stage")).to_be_focused()


def drag(page, *places):
    """Press at the first place of the image, move along the others, let go."""
    stage = page.locator("#stage")
    stage.scroll_into_view_if_needed()
    box = stage.bounding_box()
    there = [
        (box["x"] + x * box["width"] / SIDE, box["y"] + y * box["height"] / SIDE) for x, y in places
    ]
    page.mouse.move(*there[0])
    page.mouse.down()
    for x, y in there[1:]:
        page.mouse.move(x, y, steps=5)
    page.mouse.up()


def take(page, tool):
    page.locator(".choice span", has_text=tool).click()


def caption(page):
    """Caption, and wait until all is written."""
    page.click("#caption")
    expect(page.locator("#caption")).to_have_text(re.compile("again$"))
    return [one.strip() for one in page.locator(".caption").all_inner_texts()]


def record(page):
    """What the page downloads as JSON."""
    with page.expect_download() as download:
        page.click("#save-json")
    return json.loads(download.value.path().read_text(encoding="utf-8"))


def masks(page):
    return [rle_mask(region["rle"], (SIDE, SIDE)) for region in record(page)["regions"]]
