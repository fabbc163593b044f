"""POST /v1/segment, and regions given by points on the other routes."""

import base64
import io
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from regionlm.inputs.coco_masks import rle_mask
from regionlm.inputs.images import open_image
from regionlm.inputs.points import Point
from regionlm.points.segmenter import load_segmenter
from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.limits import Limits
from tests.regionlm.points.tiny_sam import tiny_sam

SAND = Path("examples/sand.png")
IMAGE = base64.b64encode(SAND.read_bytes()).decode()
POINTS = [[80, 190], [100, 230, 1], [20, 20, 0]]


@pytest.fixture(scope="module")
def expected():
    places = [Point(80, 190), Point(100, 230), Point(20, 20, False)]
    return load_segmenter().mask(open_image(SAND), places)


def test_a_reply_has_the_region_as_code_and_as_picture(client, expected):
    reply = client.post("/v1/segment", json={"image": IMAGE, "points": POINTS})
    assert reply.status_code == 200, reply.text
    said = reply.json()
    assert np.array_equal(rle_mask(said["region"]["rle"], (320, 320)), expected)
    png = base64.b64decode(said["mask"].removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(png))) == 255, expected)
    assert said["method"] == "superpixel" and "without SAM" in said["note"]


def test_points_may_stand_wherever_a_region_may(client, expected):
    rle = client.post("/v1/segment", json={"image": IMAGE, "points": POINTS}).json()["region"]
    regions = [{"points": POINTS, "id": "same"}, {**rle, "id": "same"}]
    said = client.post("/v1/caption", json={"image": IMAGE, "regions": regions}).json()
    first, second = said["regions"]
    assert first == {
        name: pytest.approx(value) if isinstance(value, float) else value
        for name, value in second.items()
    }


def test_a_sam_segments_where_the_service_has_one(mini, tmp_path):
    for part in tiny_sam():
        part.save_pretrained(tmp_path)
    segmenter = load_segmenter(tmp_path, device="cpu")
    engine = Engine(mini, segmenter=segmenter)
    with TestClient(create_app(engine)) as client:
        said = client.post("/v1/segment", json={"image": IMAGE, "points": [[80, 190]]}).json()
    engine.close()
    assert said["method"] == "sam" and tmp_path.name in said["note"]
    expected = segmenter.mask(open_image(SAND), [Point(80, 190)])
    assert np.array_equal(rle_mask(said["region"]["rle"], (320, 320)), expected)


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"image": IMAGE}, "points"),
        ({"image": IMAGE, "points": []}, "points"),
        ({"image": IMAGE, "points": [[1, 2]] * 65}, "at most 64"),
        ({"image": IMAGE, "points": [[900, 2]]}, "outside the image"),
        ({"image": IMAGE, "points": [[1, 2, 0]]}, "at least one inside"),
        ({"points": [[1, 2]]}, "image"),
        ({"image": IMAGE, "points": [[1, 2]], "regions": [{"box": [0, 0, 9, 9]}]}, "nothing else"),
    ],
)
def test_what_can_not_be_used_is_422_in_one_line(client, body, words):
    reply = client.post("/v1/segment", json=body)
    assert reply.status_code == 422
    message = reply.json()["error"]["message"]
    assert words in message and "\n" not in message


def test_a_thread_that_is_too_late_still_counts_as_busy(mini):
    class Slow:
        method, note, may_end, asked = "slow", "", threading.Event(), 0

        def mask(self, image, points):
            self.asked += 1
            assert self.may_end.wait(60)
            return np.ones((image.height, image.width), dtype=bool)

    slow = Slow()
    engine = Engine(mini, Limits(timeout=5), slow)
    body = {"image": IMAGE, "points": [[80, 190]]}
    with TestClient(create_app(engine)) as client:

        def post(_=0):
            return client.post("/v1/segment", json=body)

        with ThreadPoolExecutor(8) as threads:
            assert [one.status_code for one in threads.map(post, range(8))] == [504] * 8
        assert post().status_code == 429
        slow.may_end.set()
        while (reply := post()).status_code in (429, 504):
            pass
    assert reply.status_code == 200
    assert 1 < slow.asked < 8  # those that were too late before a thread was free were not begun
    engine.close()
