"""The native API: replies are the Python API's."""

import pytest

from regionlm.inputs.masks import box_region
from tests.regionlm.serve.pictures import encoded, picture


def test_a_caption_is_the_python_apis(client, mini):
    image = picture()
    asked = {"image": encoded(image), "regions": [{"box": [5, 5, 20, 20]}, {"box": [0, 0, 9, 9]}]}
    reply = client.post("/v1/caption", json=asked)
    assert reply.status_code == 200, reply.text
    boxes = [box_region(one["box"], image.size) for one in asked["regions"]]
    expected = [one.to_dict() for one in mini.caption(image, boxes)]
    found = reply.json()["regions"]
    assert [one["caption"] for one in found] == [one["caption"] for one in expected]
    for one, other in zip(found, expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4)


def test_the_process_is_alive(client):
    assert client.get("/health").json() == {"status": "ok"}
