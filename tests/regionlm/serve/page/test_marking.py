"""Mark regions on an example and read what the server says, as a person does."""

import json
from importlib.resources import files

import numpy as np
import pytest
from playwright.sync_api import expect

from regionlm.bulk.manifest import regions_of
from regionlm.inputs.coco_masks import rle_mask
from regionlm.inputs.images import open_image
from regionlm.inputs.points import Point
from regionlm.inputs.regions import check_region
from regionlm.points.segmenter import load_segmenter
from regionlm.serve.replies import png_uri
from tests.regionlm.serve.page.acts import SIDE, caption, drag, masks, open_example, record, take

SAND = files("regionlm.serve.page") / "static" / "examples" / "sand.jpg"


def test_a_painted_region_is_captioned_as_by_the_python_api(page, mini):
    open_example(page)
    drag(page, (60, 190), (130, 190), (130, 225), (75, 225))
    [text] = caption(page)
    said = record(page)
    assert said["image"] == "sand.jpg" and said["model"] == "mini"
    check_region(said["regions"][0])  # as in a manifest
    mask = rle_mask(said["regions"][0]["rle"], (SIDE, SIDE))
    assert mask[190, 90] and mask[225, 90] and not mask[60, 200]
    [expected] = mini.caption(open_image(str(SAND)), mask)
    assert text == expected.text == said["answers"][0]["caption"]
    assert said["answers"][0]["logprob"] == pytest.approx(expected.logprob, abs=1e-3)
    trust = page.inner_text(".trust")
    assert f"{expected.dice:.2f}" in trust and f"{expected.cosine_to_image:.2f}" in trust
    assert "Region 1: " + text == page.inner_text("#announcer")


def test_boxes_are_regions_of_their_own_and_can_be_added_to_and_cut(page):
    open_example(page)
    take(page, "Box")
    drag(page, (40, 138), (152, 256))
    drag(page, (180, 140), (310, 250))
    fox, fish = masks(page)
    assert fox[138:256, 40:152].mean() > 0.95 and fox.sum() < 1.1 * 112 * 118
    assert page.locator(".region.selected").inner_text().startswith("Region 2")
    take(page, "Add")
    drag(page, (200, 20), (220, 60))
    take(page, "Leave out")
    drag(page, (180, 140), (240, 250))
    same, changed = masks(page)
    assert np.array_equal(same, fox)
    assert changed[30, 210] and not changed[200, 210] and changed[200, 300] and fish[200, 210]


def test_a_click_grows_a_region_and_says_how(page):
    open_example(page)
    take(page, "Click")
    drag(page, (80, 190))
    page.wait_for_selector(".region")
    assert "without SAM" in page.inner_text("#status")
    [found] = masks(page)
    expected = load_segmenter().mask(open_image(str(SAND)), [Point(80, 190)])
    assert (found & expected).sum() / (found | expected).sum() > 0.95
    take(page, "Add")
    with page.expect_response("**/v1/segment"):
        drag(page, (250, 190))
    expect(page.locator("#status")).to_contain_text("SAM")
    [more] = masks(page)
    assert more.sum() > found.sum() and not (found & ~more).any()


def test_undo_redo_and_erase(page):
    open_example(page)
    drag(page, (60, 190), (130, 190))
    [first] = masks(page)
    take(page, "Erase")
    drag(page, (60, 190), (95, 190))
    [second] = masks(page)
    assert second.sum() < first.sum() and not second[190, 70]
    page.click("#undo")
    assert np.array_equal(masks(page)[0], first)
    page.click("#undo")
    assert page.locator(".region").count() == 0 and page.is_disabled("#undo")
    page.click("#redo")
    page.click("#redo")
    assert np.array_equal(masks(page)[0], second) and page.is_disabled("#redo")


def test_a_caption_holds_for_a_shape_also_after_undo(page):
    open_example(page)
    drag(page, (60, 190), (130, 190))
    [text] = caption(page)
    drag(page, (60, 220), (130, 220))
    assert page.locator(".caption").count() == 0
    page.click("#undo")
    assert page.inner_text(".caption") == text


def test_regions_are_renamed_chosen_and_deleted(page):
    open_example(page)
    take(page, "Box")
    drag(page, (40, 138), (152, 256))
    drag(page, (180, 140), (310, 250))
    page.click("text=Rename >> nth=0")
    page.keyboard.type("the fox")
    page.keyboard.press("Enter")
    assert [one["id"] for one in record(page)["regions"]] == ["the fox", "Region 2"]
    page.click(".name >> nth=1")
    page.click("[aria-label='Delete Region 2']")
    assert page.locator(".region").count() == 1
    caption(page)
    assert record(page)["answers"][0]["region"] == "the fox"


def test_a_manifest_reads_the_download_though_regions_share_a_name(page):
    open_example(page)
    take(page, "Box")
    for place in (40, 140, 240):
        drag(page, (place, 138), (place + 40, 256))
    for number in (1, 2):
        page.click(f"[aria-label='Rename Region {number}']")
        page.keyboard.type("fox")
        page.keyboard.press("Enter")
    said = record(page)
    ids = ["fox", "fox 2", "Region 3"]
    assert [one["id"] for one in regions_of(said)] == ids
    assert [one["region"] for one in said["answers"]] == ids


def test_words_are_compared_as_by_the_python_api(page, mini):
    open_example(page)
    take(page, "Box")
    drag(page, (40, 138), (152, 256))
    page.fill("#labels", "a fox, a fish, a book")
    page.click("#compare")
    page.wait_for_selector(".bars")
    texts = ["a fox", "a fish", "a book"]
    [expected] = mini.match(open_image(str(SAND)), masks(page)[0], texts)
    labels = record(page)["answers"][0]["labels"]
    assert labels["texts"] == texts
    assert labels["probabilities"] == pytest.approx(list(expected.probabilities), abs=1e-3)
    assert page.locator(".bars .text").first.inner_text() == "a fox"


def test_the_map_is_laid_over_the_image(page):
    open_example(page)
    take(page, "Box")
    drag(page, (40, 138), (152, 256))
    assert not page.is_visible("#heat")
    caption(page)
    plain = page.locator("#stage").screenshot()
    page.fill("#heat", "80")
    expect(page.locator("#heat")).to_have_attribute("aria-valuetext", "map at 80%")
    while page.locator("#stage").screenshot() == plain:  # until the next frame
        pass
    with page.expect_download() as download:
        page.click("#save-picture")
    saved = open_image(download.value.path())
    assert saved.width == SIDE and saved.height > SIDE


def test_a_map_of_another_size_is_not_laid_over_the_image(page):
    """As a LLaVA's, which lies on its own crop."""
    open_example(page)
    drag(page, (60, 190), (130, 190))
    row = {"region": "Region 1", "caption": "a fox", "logprob": -1, "dice": None, "iou": None}
    row |= {"cosine_to_image": 0.5, "heatmap": png_uri(np.ones((8, 8)))}
    events = [("region", {"index": 0, **row}), ("done", {"model": "x", "regions": [row]})]
    body = "".join(f"event: {name}\ndata: {json.dumps(data)}\n\n" for name, data in events)
    page.route("**/v1/caption", lambda route: route.fulfill(body=body))
    assert caption(page) == ["a fox"]
    assert "looks" not in page.inner_text(".trust")
    assert not page.is_visible("#heat")


def test_files_are_opened_pasted_or_dropped_and_large_ones_scaled(page, tmp_path):
    large = open_image(str(SAND)).resize((2400, 1200))
    large.save(tmp_path / "large.png")
    page.set_input_files("#file", tmp_path / "large.png")
    expect(page.locator("#status")).to_contain_text("scaled down to 1600")
    drag(page, (100, 100), (200, 200))
    said = record(page)
    assert said["size"] == [2400, 1200]  # as the file, which a manifest reads
    mask = rle_mask(said["regions"][0]["rle"], large.size)
    assert mask[562, 1125] and not mask[375, 1500]  # at 150 and 200 of 320, and off the line
    for name in ("paste", "drop"):
        page.evaluate(
            """async (name) => {
                const blob = await (await fetch("/page/examples/snow.jpg")).blob();
                const data = new DataTransfer();
                data.items.add(new File([blob], `${name}.jpg`, { type: "image/jpeg" }));
                const how = { bubbles: true, clipboardData: data, dataTransfer: data };
                const kind = name === "paste" ? ClipboardEvent : DragEvent;
                document.body.dispatchEvent(new kind(name, how));
            }""",
            name,
        )
        expect(page.locator("#status")).to_contain_text(f"{name}.jpg")
    (tmp_path / "text.png").write_text("no picture")
    page.set_input_files("#file", tmp_path / "text.png")
    expect(page.locator("#message")).to_contain_text("expected a PNG, JPEG or WebP")


def test_after_a_reload_the_page_works_anew(page):
    open_example(page)
    drag(page, (60, 190), (130, 190))
    [text] = caption(page)
    page.reload()
    assert page.locator(".region").count() == 0
    open_example(page)
    drag(page, (60, 190), (130, 190))
    assert caption(page) == [text]
