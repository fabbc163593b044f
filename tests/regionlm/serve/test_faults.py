"""Whatever comes in: the right status, one line in OpenAI's form, and the next request is fine."""

import base64
import io
import json
import struct
import threading
import zlib

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image

from regionlm.serve import reading
from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.limits import Limits
from tests.regionlm.serve.pictures import encoded, picture, png

JSON = {"Content-Type": "application/json"}
BOX = {"box": [0, 0, 9, 9]}


def post(client, path="/v1/caption", **asked):
    return client.post(path, json=asked)


def check_error(reply, status, said):
    """A reply is an error of this status, in OpenAI's form, in one line."""
    assert reply.status_code == status, reply.text
    error = reply.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert "\n" not in error["message"] and said in error["message"], error
    assert "Traceback" not in reply.text and reply.headers["X-Request-ID"]


@pytest.fixture
def still_answers(client):
    """After the test, an ordinary request is answered."""
    yield
    assert post(client, image=encoded(picture()), regions=[BOX]).status_code == 200


@pytest.mark.parametrize(
    ("body", "status", "said"),
    [
        (b"", 400, "EOF"),
        (b"{", 400, "JSON"),
        (b"\xff\xfe", 400, ""),
        (b"[" * 100_000, 400, ""),
        (b"[]", 422, "object"),
        (b"null", 422, "object"),
        (b'{"image": "AAAA", "regions": [{"box": [NaN, 0, 9, 9]}]}', 422, "finite"),
        (b'{"image": "AAAA", "regions": [{"box": [0, 0, 1e999, 9]}]}', 422, "finite"),
        (b'{"image": 3, "regions": []}', 422, "image"),
        (b'{"image": "AAAA", "regions": [], "more": 1}', 422, "more"),
        (b'{"image": "AAAA", "options": {"checkpoint": "/etc/passwd"}}', 422, "checkpoint"),
        (b'{"image": "AAAA", "options": {"steps": "10"}}', 422, "steps"),
        (b'{"image": "AAAA", "options": {"embedder": "alphaclip"}}', 422, "embedder"),
        (b'{"image": "AAAA", "option": {}}', 422, "option: no such name; /docs has"),
        (b'{"regions": [{"id": true}]}', 422, "regions.0.id: expected str or int, found True"),
        (b'{"options": {"size": [448]}}', 422, "options.size: expected int or tuple[int, int]"),
        (b'{"regions": {}}', 422, ", found {}"),
        (b'{"regions": [%s]}' % b",".join([b"{}"] * 20_000), 422, "10000"),
        (b'{"regions": [%s]}' % b",".join([b"{}"] * 500_002), 413, "at most 500000 values"),
        (b"{%s}" % b",".join([b'"a": 0'] * 50_001), 413, "at most 50000 names"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_request_is_refused(client, still_answers, body, status, said):
    check_error(client.post("/v1/caption", content=body, headers=JSON), status, said)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        ("%%%", "base64"),
        ("data:image/png,abc", "can't be read as an image"),
        ("data:image/png;base64", "data:image/png;base64,"),
        ("DATA:image/png;base64,", "is empty"),
        ("QUJD", "can't be read as an image"),
        (base64.b64encode(png(picture())[:700]).decode(), "damaged"),
        ("/etc/passwd", ""),
        ("../secret.png", "base64"),
        ("file:///etc/passwd", "base64"),
        ("http://127.0.0.1/x.png", "fetches"),
        ("", "image"),
    ],
)
def test_what_is_no_image_is_refused(client, still_answers, image, said):
    check_error(post(client, image=image, regions=[BOX]), 422, said)


@pytest.mark.parametrize(
    ("region", "said"),
    [
        ({}, "exactly one"),
        ({**BOX, "polygon": [[0, 0, 5, 0, 5, 5]]}, "exactly one"),
        ({"box": [9, 9, 0, 0]}, "X0 < X1"),
        ({"box": [0, 0, 1e9, 9]}, "outside"),
        ({"box": [0, 0, 9]}, "box"),
        ({"mask": "/etc/passwd"}, ""),
        ({"mask": encoded(picture(1, (9, 9)))}, "9 x 9"),
        ({"mask": encoded(Image.new("L", (40, 30)))}, "empty"),
        ({"rle": {"size": [30, 40], "counts": [5]}}, "1200"),
        ({"rle": {"size": [30, 40], "counts": "~~~"}}, "packed"),
        ({"rle": {"size": [1e9, 1e9], "counts": [10**18]}}, "size"),
        ({"rle": 3}, "rle"),
        ({"polygon": [[0, 0, 1, 1]]}, "three points"),
        ({"polygon": ["a"]}, "polygon"),
        ({"polygon": [[[[[]]]]]}, "polygon"),
        ({**BOX, "id": ""}, "id"),
        ({**BOX, "mask": encoded(Image.new("L", (40, 30), 255))}, "found box and mask"),
        ({"mask": encoded(Image.new("L", (40, 30), 255)), "id": ""}, "id"),
        ({"polygon": [[0, 0, 40, 0, 40, 30]] * 20_000}, "at most 10000 of a region"),
        ({"polygon": [[0, 0, 40, 30] * 20_000]}, "an outline of at most 1000000 pixels"),
    ],
    ids=lambda value: str(value)[:60],
)
def test_what_is_no_region_is_refused(client, still_answers, region, said):
    check_error(post(client, image=encoded(picture()), regions=[region]), 422, said)


def test_more_of_anything_than_the_limits_is_refused_before_the_image_is_read(client):
    image = "QUJD"  # no image: reading it would say so
    check_error(post(client, image=image, regions=[BOX] * 10_000), 422, "regions")
    check_error(post(client, image=image, regions=[]), 422, "regions")
    texts = ["a"] * 10_000
    reply = post(client, "/v1/match", image=encoded(picture()), regions=[BOX], texts=texts)
    check_error(reply, 422, "texts")
    texts = ["word " * 10_000]
    reply = post(client, "/v1/explain", image=encoded(picture()), texts=texts)
    check_error(reply, 422, "characters")


def bomb(side):
    """A PNG that says it is side x side pixels, and holds a few bytes."""

    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


@pytest.mark.parametrize("side", [10_000, 60_000, 2**31 - 1])
def test_a_decompression_bomb_is_not_decoded(client, still_answers, side):
    image = base64.b64encode(bomb(side)).decode()
    check_error(post(client, image=image, regions=[BOX]), 422, "at most 32 million pixels")
    check_error(post(client, image=encoded(picture()), regions=[{"mask": image}]), 422, "")


def test_a_label_map_with_too_many_labels_is_not_split(mini):
    engine = Engine(mini, Limits(max_regions=3))
    labels = np.arange(1200, dtype=np.uint8).reshape(30, 40) % 9
    with TestClient(create_app(engine)) as client:
        mask = {"mask": encoded(Image.fromarray(labels))}
        check_error(
            post(client, image=encoded(picture()), regions=[mask]), 422, "at most 3 regions"
        )
    engine.close()


def test_mask_files_have_no_more_regions_together_than_a_request_may_have(mini, monkeypatch):
    engine, made = Engine(mini, Limits(max_regions=4)), []
    read = reading.regions_of_bytes

    def counted(*given, **options):
        made.append(read(*given, **options))
        return made[-1]

    monkeypatch.setattr(reading, "regions_of_bytes", counted)
    labels = png(Image.fromarray(np.arange(1200, dtype=np.uint8).reshape(30, 40) % 4))
    files = [("mask", (f"{n}.png", labels)) for n in range(3)]
    with TestClient(create_app(engine)) as client:
        image = ("image", ("a.png", png(picture())))
        check_error(client.post("/v1/caption", files=[image, *files]), 422, "at most")
        regions = [{"mask": base64.b64encode(labels).decode()}] * 3
        check_error(post(client, image=encoded(picture()), regions=regions), 422, "at most")
    engine.close()
    assert not made  # three labels and two more files are more than four regions


def test_the_masks_of_a_request_fit_the_memory_before_any_is_made(mini, monkeypatch):
    monkeypatch.setattr(reading, "read_region", lambda *_: pytest.fail("made a mask"))
    engine = Engine(mini, Limits(queue_mib=0.01))  # 8 masks of 40 x 30
    with TestClient(create_app(engine)) as client:
        reply = post(client, image=encoded(picture()), regions=[BOX] * 9)
        check_error(reply, 422, "regions: expected at most 8 of an image of 40 x 30 pixels")
    engine.close()


def test_a_format_that_runs_other_programs_is_not_read(client):
    image = base64.b64encode(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n").decode()
    check_error(post(client, image=image, regions=[BOX]), 422, "expected PNG")


def test_a_body_beyond_the_limit_is_refused_whether_or_not_it_says_so(mini):
    engine = Engine(mini, Limits(max_body_mib=0.1))
    with TestClient(create_app(engine)) as client:
        body = b"x" * 200_000
        check_error(client.post("/v1/caption", content=body, headers=JSON), 413, "0.1 MiB")
        check_error(
            client.post("/v1/caption", content=iter([body] * 9), headers=JSON), 413, "0.1 MiB"
        )
        check_error(client.post("/no/such/path", content=body, headers=JSON), 413, "0.1 MiB")
    engine.close()


def test_a_request_that_takes_too_long_is_answered_so(mini, monkeypatch):
    engine, begun, released = Engine(mini, Limits(timeout=2)), threading.Event(), threading.Event()

    def endless(*_, **__):
        begun.set()
        released.wait(60)

    with TestClient(create_app(engine)) as client, monkeypatch.context() as patch:
        patch.setattr(engine.model, "caption_batch", endless)
        reply = post(client, image=encoded(picture()), regions=[BOX])
        # A machine that stalls may take that long to ask the model at all.
        check_error(reply, 504, "no answer within 2 s" if begun.is_set() else "no answer")
        released.set()
    engine.close()


def test_bad_parts_of_a_multipart_request_are_refused(client, still_answers):
    image = ("i.png", png(picture()), "image/png")
    request = {"request": json.dumps({"regions": [BOX]})}
    reply = client.post("/v1/caption", files={"picture": image}, data=request)
    check_error(reply, 422, "picture")
    parts = {"regions": json.dumps([BOX]), "stream": "true"}
    reply = client.post("/v1/caption", files={"image": image}, data=parts)
    check_error(reply, 422, "request, which has all else as JSON")
    headers = {"content-type": "multipart/form-data"}
    check_error(client.post("/v1/caption", content=b"------", headers=headers), 400, "boundary")
    check_error(client.post("/v1/caption", files={"mask": image}, data=request), 422, "image")
    reply = client.post("/v1/caption", files={"image": image}, data={"request": "{"})
    check_error(reply, 400, "JSON")
    both = {"request": json.dumps({"image": encoded(picture()), "regions": [BOX]})}
    check_error(client.post("/v1/caption", files={"image": image}, data=both), 422, "leave one")
    headers = {"content-type": "multipart/form-data; boundary=x"}
    check_error(client.post("/v1/caption", content=b"--y\r\n", headers=headers), 400, "")
    many = [("mask", image)] * 100
    reply = client.post("/v1/caption", files=[("image", image), *many])
    check_error(reply, 422, "regions: expected at most 64")
    check_error(client.post("/v1/caption", files=[("image", image), *many * 11]), 400, "")


def test_an_id_that_is_repeated_in_every_event_is_short(client, still_answers):
    regions = [{"box": [0, 0, 9, 9], "id": "x" * 201}]
    reply = client.post("/v1/caption", json={"image": encoded(picture()), "regions": regions})
    assert reply.status_code == 422 and "200" in reply.json()["error"]["message"]


def test_an_error_inside_says_nothing_of_it(client, engine, monkeypatch):
    def fails(*_, **__):
        raise RuntimeError("/secret/path")

    with monkeypatch.context() as patch:
        patch.setattr(engine.model, "caption_batch", fails)
        reply = post(client, image=encoded(picture()), regions=[BOX])
    assert reply.status_code == 500 and "secret" not in reply.text
    assert post(client, image=encoded(picture()), regions=[BOX]).status_code == 200


def test_unknown_paths_and_methods_have_errors_of_the_same_form(client):
    check_error(client.get("/nothing"), 404, "Not Found")
    check_error(client.get("/v1/caption"), 405, "Method")


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("steps", 100_000, "at most 100 here"),
        ("size", 2048, "at most 1024 pixels"),
        ("size", 100_000, "multiples of the patch"),
        ("max_new_tokens", 10**9, "at most 256 here"),
        ("bad_words", ["fox"] * 257, "at most 256, found 257"),
        ("bad_words", ["fox" * 1000], "at most 2000 characters each, found 3000"),
        ("bad_words_ids", [[1]] * 257, "at most 256, found 257"),
        ("bad_words_ids", [[1] * 300], "at most 256 token ids each, found 300"),
        ("eos_token_id", [1] * 257, "at most 256, found 257"),
        ("caption_start", "fox" * 1000, "at most 2000 characters each, found 3000"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_what_an_option_may_ask_for_is_limited(client, still_answers, option, value, said):
    asked = {"image": encoded(picture()), "regions": [BOX]}
    check_error(post(client, **asked, options={option: value}), 422, f"{option}: expected {said}")


def test_null_is_as_good_as_nothing(client):
    region = {**BOX, "mask": None, "points": None, "id": None}
    reply = post(client, image=encoded(picture()), regions=[region])
    assert reply.json()["regions"][0]["region"] == "box 0,0,9,9"


def test_the_json_of_a_multipart_request_is_limited_too(client, still_answers):
    image = ("i.png", png(picture()), "image/png")
    request = {"request": json.dumps({"regions": [{}] * 500_002})}
    reply = client.post("/v1/caption", files={"image": image}, data=request)
    check_error(reply, 413, "at most 500000 values")


def test_an_address_beside_a_file_is_refused(client, still_answers):
    image = ("i.png", png(picture()), "image/png")
    request = {"request": json.dumps({"image": "https://example.org/i.png", "regions": [BOX]})}
    reply = client.post("/v1/caption", files={"image": image}, data=request)
    check_error(reply, 422, "leave one of them out")


@pytest.mark.parametrize("path", ["/health", "/ready"])
def test_load_balancers_may_ask_without_a_body(client, path):
    reply = client.head(path)
    assert reply.status_code == 200 and not reply.content


def test_an_animated_picture_is_refused(client, still_answers):
    file = io.BytesIO()
    picture().save(file, "GIF", save_all=True, append_images=[picture(1)])
    image = base64.b64encode(file.getvalue()).decode()
    check_error(post(client, image=image, regions=[BOX]), 422, "2 frames")
