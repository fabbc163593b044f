"""What takes time is done beside the event loop, which must stay free for other requests."""

import threading

import pytest
from starlette.responses import JSONResponse

from regionlm.serve import asked, native
from regionlm.serve.openai import replies
from regionlm.serve.question import Question
from tests.regionlm.serve.openai.chats import LEFT, asking, box_mask, cut_out
from tests.regionlm.serve.pictures import encoded, picture, png

ASKED = {"image": encoded(picture(1)), "regions": [{"box": [0, 0, 9, 9]}]}
CHAT = {"model": "mini", "messages": asking(cut_out(picture(1), box_mask(picture(1), LEFT)))}


@pytest.fixture
def threads(monkeypatch):
    """Call it with an owner and the name of a function; where it was called."""
    found = []

    def watch(owner, name):
        plain = getattr(owner, name)

        def watched(*args, **options):
            found.append(threading.current_thread().name)
            return plain(*args, **options)

        monkeypatch.setattr(owner, name, watched)
        return found

    return watch


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("caption", ASKED),
        ("match", {**ASKED, "texts": ["a fish", "cheese"]}),
        ("embed", ASKED),
        ("explain", {**ASKED, "texts": ["cheese"]}),
        ("chat/completions", CHAT),
        ("segment", {"image": ASKED["image"], "points": [[9, 9]]}),
    ],
)
def test_replies_are_written_there(client, threads, path, body):
    found = threads(JSONResponse, "render")
    assert client.post(f"/v1/{path}", json=body).status_code == 200
    assert len(found) == 1 and found[0].startswith(("reader", "segmenter"))


def test_the_last_events_of_a_stream_are_written_there(client, threads):
    found = threads(native, "event")
    reply = client.post("/v1/caption", json={**ASKED, "heatmap": True, "stream": True})
    assert "event: done" in reply.text
    assert all(one.startswith("reader") for one in found[-2:])


def test_the_last_event_of_a_chat_is_written_there(client, threads):
    found = threads(replies.Form, "last")
    reply = client.post("/v1/chat/completions", json={**CHAT, "stream": True})
    assert "[DONE]" in reply.text
    assert len(found) == 1 and found[0].startswith("reader")


def test_the_json_of_a_multipart_request_is_read_there(client, threads):
    found = threads(asked, "parse")
    files = {"image": ("a.png", png(picture(1)), "image/png")}
    request = {"request": '{"regions": [{"box": [0, 0, 9, 9]}]}'}
    assert client.post("/v1/caption", files=files, data=request).status_code == 200
    assert len(found) == 1 and found[0].startswith("reader")


@pytest.mark.parametrize(("path", "body"), [("caption", ASKED), ("chat/completions", CHAT)])
def test_masks_are_digested_there(client, threads, path, body):
    found = threads(Question, "__post_init__")
    assert client.post(f"/v1/{path}", json=body).status_code == 200
    assert len(found) == 1 and found[0].startswith("reader")
