"""The page's modules by themselves, in the browser that runs them."""

import numpy as np
import pytest

from regionlm.inputs.coco_masks import mask_rle, rle_mask


@pytest.fixture(scope="module")
def module(browser, server):
    """Calls a function of a module of the page with JSON values."""
    page = browser.new_page()
    page.goto(server)

    def call(name, body, *values):
        code = f"async (values) => {{ const m = await import('/page/{name}.js'); {body} }}"
        return page.evaluate(code, list(values))

    yield call
    page.close()


def test_run_length_codes_are_those_of_the_server(module):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mask = rng.random(rng.integers(1, 12, 2)) < rng.random()
        size = {"width": mask.shape[1], "height": mask.shape[0]}
        flat = mask.reshape(-1).astype(int).tolist()
        code = module("mask", "return m.encode(Uint8Array.from(values[0]), values[1])", flat, size)
        assert np.array_equal(rle_mask(code, mask.shape[::-1]), mask)
        back = module("mask", "return [...m.decode(values[0])]", mask_rle(mask))
        assert back == flat
        assert module("mask", "return m.area(values[0])", mask_rle(mask)) == mask.sum()


def test_run_length_codes_are_scaled_to_the_nearest_pixel(module):
    for seed in range(20):
        rng = np.random.default_rng(seed)
        mask = rng.random(rng.integers(1, 12, 2)) < rng.random()
        height, width = mask.shape * rng.integers(1, 5, 2) + rng.integers(0, 3, 2)
        size = {"width": int(width), "height": int(height)}
        code = module("mask", "return m.scale(values[0], values[1])", mask_rle(mask), size)
        y, x = (
            ((2 * np.arange(new) + 1) * old) // (2 * new)
            for new, old in zip((height, width), mask.shape, strict=True)
        )
        expected = mask[np.ix_(y, x)]
        assert np.array_equal(rle_mask(code, (width, height)), expected)
        assert code == mask_rle(expected)


def test_names_that_come_again_have_a_number(module):
    names = ["fox", "fox", "fox 2", "fox", "hen"]
    found = module("saving", "return m.distinct(values[0])", names)
    assert found == ["fox", "fox 3", "fox 2", "fox 4", "hen"]


def test_a_stroke_covers_what_is_near_its_line(module):
    body = """
        const size = { width: 40, height: 30 };
        const mask = m.blank(size);
        m.stroke(mask, size, values[0], values[1], values[2], 1);
        return [...mask];
    """
    found = module("mask", body, {"x": 5, "y": 8}, {"x": 33, "y": 20}, 4)
    y, x = np.mgrid[:30, :40] + 0.5
    direction = np.array([28, 12])
    along = np.clip(((x - 5) * 28 + (y - 8) * 12) / (direction @ direction), 0, 1)
    near = np.hypot(x - 5 - along * 28, y - 8 - along * 12) <= 4
    assert np.array_equal(np.array(found).reshape(30, 40) == 1, near)


@pytest.mark.parametrize("chunk", [1, 7, 1000])
def test_events_are_read_however_they_are_cut(module, chunk):
    text = (
        'event: piece\r\ndata: {"text": "a ü"}\r\n\r\n: a comment\n\n'
        'event: done\ndata: {"a":\ndata: 1}\n\n'
    )
    body = """
        const bytes = new TextEncoder().encode(values[0]);
        const parts = [];
        for (let i = 0; i < bytes.length; i += values[1]) parts.push(bytes.slice(i, i + values[1]));
        const stream = new ReadableStream({
            start(c) { parts.forEach((part) => c.enqueue(part)); c.close(); },
        });
        const found = [];
        for await (const one of m.events(stream)) found.push(one);
        return found;
    """
    assert module("server", body, text, chunk) == [
        {"event": "piece", "data": {"text": "a ü"}},
        {"event": "done", "data": {"a": 1}},
    ]


@pytest.mark.parametrize(
    ("figures", "level", "words"),
    [
        ({"dice": 0.71, "iou": 0.55}, "good", "The model looks where you painted: 0.71"),
        ({"dice": 0.4, "iou": 0.25}, "fair", "partly where you painted: 0.40"),
        ({"dice": 0.1, "iou": 0.05}, "poor", "looks elsewhere: 0.10"),
    ],
)
def test_trust_in_words(module, figures, level, words):
    said = module("words", "return m.looks(values[0])", figures)
    assert said["level"] == level and words in said["text"]


def test_what_is_not_known_is_not_said(module):
    assert module("words", "return m.looks(values[0])", {"dice": None, "iou": None}) is None


@pytest.mark.parametrize(
    ("cosine", "words"),
    [(0.5, "About the region, not the image"), (0.9, "Close to"), (0.99, "About the whole")],
)
def test_what_the_caption_is_about(module, cosine, words):
    said = module("words", "return m.about(values[0])", {"cosine_to_image": cosine})
    assert said["text"].startswith(words)


def test_words_are_separated_by_commas_and_lines(module):
    assert module("words", "return m.labels(values[0])", " a fox,a fish,\n,a fox\nbook") == [
        "a fox",
        "a fish",
        "book",
    ]
