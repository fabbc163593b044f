"""A limit holds in whatever form a request comes."""

import json

import pytest
from fastapi.testclient import TestClient
from PIL import Image

from regionlm.errors import InputError
from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.limits import Limits
from tests.regionlm.serve.pictures import encoded, picture, png

BOX = {"box": [0, 0, 9, 9]}
MASK = Image.new("L", (40, 30), 255)


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


def test_what_is_left_to_a_default_is_within_the_limits_too(mini):
    engine = Engine(mini, Limits(max_tokens=3, max_steps=2, max_beams=2))
    allowed = {"max_new_tokens": 3, "steps": 2}
    asked = {"image": encoded(picture()), "regions": [BOX]}
    with TestClient(create_app(engine)) as client:

        def rows(options):
            reply = client.post("/v1/caption", json={**asked, "options": options})
            assert reply.status_code == 200, reply.text
            return reply.json()["regions"]

        assert rows({}) == rows({"steps": None, "max_new_tokens": None}) == rows(allowed)
        beam = {"decoding": "beam"}
        assert rows(beam) == rows({**beam, **allowed, "beam_size": 2})
        assert rows({"embedder": "crop"}) == rows({"embedder": "crop", "max_new_tokens": 3})
        reply = client.post("/v1/embed", json=asked)
        least = client.post("/v1/embed", json={**asked, "options": {"steps": 2}})
        assert reply.json()["data"] == least.json()["data"]
    engine.close()


def test_a_model_whose_input_is_beyond_the_limit_is_refused_at_the_start(mini):
    with pytest.raises(InputError, match=r"max_size: expected at least 192, .* found 128"):
        Engine(mini, Limits(max_size=128))


def test_maps_are_limited_by_the_size_of_the_image(mini):
    engine = Engine(mini, Limits(queue_mib=0.003))  # 3145 pixels: two of 40 by 30
    asked = {"image": encoded(picture()), "texts": ["a dog", "a cat"]}
    with TestClient(create_app(engine)) as client:
        assert client.post("/v1/explain", json=asked).status_code == 200
        for more in ({"texts": ["a", "b", "c"]}, {"regions": [BOX]}):
            reply = client.post("/v1/explain", json={**asked, **more})
            assert reply.status_code == 422
            message = reply.json()["error"]["message"]
            assert message.startswith(
                "texts and regions: expected at most 2 of an image of 40 x 30"
            )
    engine.close()


def test_too_many_mask_files_are_too_many_regions(client):
    files = [("image", ("a.png", png(picture())))]
    files += [("mask", (f"{i}.png", png(MASK))) for i in range(64)]
    request = ("request", ("r.json", b'{"options": {"steps": 0}}'))
    assert client.post("/v1/embed", files=[*files, request]).status_code == 200
    files += [("mask", ("m.png", png(MASK)))] * 9
    reply = client.post("/v1/embed", files=files)
    assert reply.status_code == 422
    assert reply.json()["error"]["message"].startswith("regions: expected at most 64, found 73")
