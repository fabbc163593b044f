"""A limit holds in whatever form a request comes."""

import json

import pytest
from fastapi.testclient import TestClient

from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.limits import Limits
from tests.regionlm.serve.pictures import encoded, picture, png

BOX = {"box": [0, 0, 9, 9]}


@pytest.mark.parametrize("is_multipart", [False, True])
@pytest.mark.parametrize("path", ["caption", "match", "embed", "explain"])
def test_points_are_limited_before_the_image_is_read(client, monkeypatch, path, is_multipart):
    monkeypatch.setattr(Engine, "view", lambda *_: pytest.fail("read the image"))
    rest = {"regions": [BOX, {"points": [[1, 2]] * 65}]}
    if path == "match":
        rest["texts"] = ["a dog", "a cat"]
    if is_multipart:
        files = {"image": ("a.png", png(picture()), "image/png")}
        reply = client.post(f"/v1/{path}", files=files, data={"request": json.dumps(rest)})
    else:
        reply = client.post(f"/v1/{path}", json={"image": encoded(picture()), **rest})
    assert reply.status_code == 422
    message = reply.json()["error"]["message"]
    assert message == "points: expected at most 64 of a region, found 65; ask several times"


def test_the_limit_of_points_is_an_option(mini):
    engine = Engine(mini, Limits(max_points=2))
    image, points = encoded(picture()), [[9, 9], [8, 8], [7, 7]]
    with TestClient(create_app(engine)) as client:
        regions = [{"points": points}]
        reply = client.post("/v1/caption", json={"image": image, "regions": regions})
        assert reply.status_code == 422 and "at most 2 of a region" in reply.text
        reply = client.post("/v1/segment", json={"image": image, "points": points})
        assert reply.status_code == 422 and "at most 2 of a region" in reply.text
        reply = client.post("/v1/segment", json={"image": image, "points": points[1:]})
        assert reply.status_code == 200
    engine.close()
