"""The native API: replies are the Python API's."""

import base64
import io
import json

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load

from regionlm.inputs.masks import box_region
from regionlm.serve.replies import caption_row, explain_row
from tests.regionlm.serve.pictures import encoded, picture, png

BOXES = [[5, 5, 20, 20], [0, 0, 9, 9]]
"""Two regions of a picture."""


def regions_of(image, boxes=BOXES):
    return [box_region(box, image.size) for box in boxes]


def asking(image, boxes=BOXES, **more):
    return {"image": encoded(image), "regions": [{"box": box} for box in boxes], **more}


def events_of(text):
    """(name, data) of each server-sent event."""
    blocks = [block.split("\n") for block in text.strip().split("\n\n")]
    return [
        (name.removeprefix("event: "), json.loads(data.removeprefix("data: ")))
        for name, data in blocks
    ]


def opened(uri):
    """Values 0..255 of a picture's data: URI."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2]))))


def test_a_caption_is_the_python_apis(client, mini):
    image = picture()
    reply = client.post("/v1/caption", json=asking(image))
    assert reply.status_code == 200, reply.text
    expected = [one.to_dict() for one in mini.caption(image, regions_of(image))]
    found = reply.json()
    assert [one["caption"] for one in found["regions"]] == [one["caption"] for one in expected]
    for one, other in zip(found["regions"], expected, strict=True):
        assert one == pytest.approx(other, abs=1e-4)
    assert found["model"] == "mini" and found["id"] == reply.headers["X-Request-ID"]


def test_options_are_those_of_the_python_api(client, mini):
    image, options = picture(1), {"steps": 2, "speed": "fast", "decoding": "beam", "beam_size": 2}
    found = client.post("/v1/caption", json=asking(image, options=options)).json()
    (one, _) = mini.caption(image, regions_of(image), **options)
    assert found["regions"][0]["caption"] == one.text and found["speed"] == "fast"
    assert found["regions"][0]["logprob"] == pytest.approx(one.logprob, abs=1e-3)


def test_a_heatmap_is_the_python_apis(client, mini):
    image = picture(2)
    found = client.post("/v1/caption", json=asking(image, heatmap=True)).json()
    expected = mini.caption(image, regions_of(image))[0].heatmap()
    values = opened(found["regions"][0]["heatmap"])
    assert np.abs(values - 255 * expected).max() < 2


def test_a_match_is_the_python_apis(client, mini):
    image, texts = picture(3), ["a dog", "a cat", "cheese"]
    found = client.post("/v1/match", json=asking(image, texts=texts)).json()
    expected = mini.match(image, regions_of(image), texts)
    assert found["texts"] == texts
    for one, other in zip(found["regions"], expected, strict=True):
        assert one["region"] == other.region
        assert one["probabilities"] == pytest.approx(other.probabilities, abs=1e-4)
        assert one["similarities"] == pytest.approx(other.similarities, abs=1e-4)


def test_an_embedding_is_the_python_apis_in_all_forms(client, mini):
    image = picture(4)
    expected = mini.embed(image, regions_of(image))
    listed = client.post("/v1/embed", json=asking(image)).json()
    assert listed["object"] == "list" and [one["index"] for one in listed["data"]] == [0, 1]
    packed = client.post("/v1/embed", json=asking(image, encoding_format="base64")).json()
    raw = load(client.post("/v1/embed", json=asking(image, format="raw")).content)
    for index, vector in enumerate(expected.embeddings.numpy()):
        np.testing.assert_allclose(listed["data"][index]["embedding"], vector, atol=1e-4)
        data = base64.b64decode(packed["data"][index]["embedding"])
        np.testing.assert_allclose(np.frombuffer(data, "<f4"), vector, atol=1e-4)
        np.testing.assert_allclose(raw["embeddings"][index], vector, atol=1e-4)
        assert listed["data"][index]["dice"] == pytest.approx(float(expected.dice[index]), abs=1e-4)
    assert {"dice", "iou", "cosine_to_image", "image_embedding"} <= raw.keys()


def test_another_embedder_is_named_and_has_no_dice(client, mini):
    asked = asking(picture(4), options={"embedder": "crop"})
    found = client.post("/v1/embed", json=asked).json()
    assert found["embedder"] == "crop" and found["data"][0]["dice"] is None


def test_maps_are_the_python_apis(client, mini):
    image, texts = picture(5), ["a fish"]
    found = client.post("/v1/explain", json=asking(image, texts=texts)).json()["maps"]
    expected = mini.explain(image, regions_of(image), texts=texts)
    assert [one["kind"] for one in found] == ["text", "region", "region"]
    for one, other in zip(found, expected, strict=True):
        assert one["name"] == other.name and tuple(one["peak"]) == other.peak
        assert np.abs(opened(one["heatmap"]) - 255 * other.heatmap).max() < 2
    assert found[0]["pointing"][1]["share_inside"] == pytest.approx(
        expected[0].share_in(regions_of(image)[1].mask), abs=1e-4
    )
    assert found[1]["dice"] == pytest.approx(expected[1].dice, abs=1e-4)


def test_texts_alone_and_rollout_are_explained(client):
    image = encoded(picture(5))
    for asked in ({"texts": ["a fish"]}, {"options": {"relevance": "rollout"}}):
        found = client.post("/v1/explain", json={"image": image, **asked})
        assert found.status_code == 200 and len(found.json()["maps"]) == 1


def test_all_forms_of_regions_are_read(client, mini):
    image = picture(6)
    mask = np.zeros((30, 40), np.uint8)
    mask[5:20, 5:20] = 255
    runs = np.flatnonzero(np.diff(mask.T.ravel() > 0, prepend=False, append=False)).tolist()
    counts = np.diff([0, *runs, mask.size]).tolist()
    written = encoded(Image.fromarray(mask))
    forms = [
        {"box": [5, 5, 20, 20], "id": "a"},
        {"mask": written, "id": 7},
        {"mask": "data:image/png;base64," + written},
        {"rle": {"size": [30, 40], "counts": counts}},
        {"polygon": [[5, 5, 20, 5, 20, 20, 5, 20]]},
    ]
    reply = client.post("/v1/caption", json={"image": encoded(image), "regions": forms})
    found = reply.json()["regions"]
    assert [one["region"] for one in found] == ["a", "7", "mask 2", "rle 3", "polygon 4"]
    expected = mini.caption(image, regions_of(image, BOXES[:1]))[0]
    assert {one["caption"] for one in found} == {expected.text}


def test_a_multipart_request_is_as_good(client, mini):
    image = picture(7)
    labels = np.zeros((30, 40), np.uint8)
    labels[5:20, 5:20], labels[0:4, 0:9] = 1, 2
    files = [
        ("image", ("photo.png", png(image), "image/png")),
        ("mask", ("m.png", png(Image.fromarray(labels)), "image/png")),
    ]
    rest = {"regions": [{"box": [0, 0, 9, 9]}], "options": {"steps": 2}}
    reply = client.post("/v1/caption", files=files, data={"request": json.dumps(rest)})
    assert reply.status_code == 200, reply.text
    expected = mini.caption(image, [box_region([0, 0, 9, 9], image.size), labels == 1], steps=2)
    found = reply.json()["regions"]
    assert [one["region"] for one in found] == ["box 0,0,9,9", "m.png#1", "m.png#2"]
    assert [one["caption"] for one in found[:2]] == [one.text for one in expected]


def test_a_stream_tells_the_same_caption_in_pieces(client):
    asked = asking(picture(8), options={"max_new_tokens": 12})
    whole = client.post("/v1/caption", json=asked).json()
    reply = client.post("/v1/caption", json={**asked, "stream": True})
    assert reply.headers["content-type"].startswith("text/event-stream")
    events = events_of(reply.text)
    for index, row in enumerate(whole["regions"]):
        pieces = [data for name, data in events if name == "piece" and data["index"] == index]
        assert "".join(one["text"] for one in pieces) == row["caption"]
        assert {one["region"] for one in pieces} <= {row["region"]}
    rows = [data for name, data in events if name == "region"]
    assert [one["caption"] for one in rows] == [one["caption"] for one in whole["regions"]]
    name, last = events[-1]
    assert name == "done" and last["regions"][0]["caption"] == whole["regions"][0]["caption"]


def test_what_fails_before_a_stream_begins_has_its_status(client):
    asked = asking(picture(8), stream=True, options={"decoding": "beam"})
    reply = client.post("/v1/caption", json=asked)
    assert reply.status_code == 422 and "beam search" in reply.json()["error"]["message"]


def test_a_multipart_request_that_was_cut_off_is_refused(client):
    """Its last part would be missing in silence."""
    mask = ("mask", png(Image.new("L", (40, 30), 255)))
    parts = [("image", png(picture())), mask, mask]
    head = 'Content-Disposition: form-data; name="{0}"; filename="{0}"\r\n\r\n'
    body = b"".join(
        b"--XX\r\n" + head.format(name).encode() + data + b"\r\n" for name, data in parts
    )
    # media types are written in any case
    headers = {"Content-Type": "Multipart/Form-Data; boundary=XX"}
    reply = client.post("/v1/caption", content=body + b"--XX--\r\n", headers=headers)
    assert reply.status_code == 200 and len(reply.json()["regions"]) == 2
    for cut in (b"", b"\r\n--XX"):
        reply = client.post("/v1/caption", content=body[:-9] + cut, headers=headers)
        assert reply.status_code == 400
        assert "ends with its boundary" in reply.json()["error"]["message"]


def test_a_token_beyond_all_numbers_is_refused(client):
    reply = client.post("/v1/caption", json=asking(picture(), options={"eos_token_id": 10**30}))
    assert reply.status_code == 422 and "eos_token_id" in reply.json()["error"]["message"]


def test_maps_end_with_their_rows(mini):
    """A reply has many, each as large as its image."""
    image = picture()
    found = mini.explain(image, regions_of(image), texts=["a dog"])
    captions = mini.caption(image, regions_of(image))
    for one in found:
        assert explain_row(one, regions_of(image))["heatmap"].startswith("data:image/png")
    for one in captions:
        assert caption_row(one, heatmap=True)["heatmap"].startswith("data:image/png")
    for one in (*found, *(caption.explanation for caption in captions)):
        assert "heatmap" not in vars(one)
