"""What those who run the service ask it: is it alive, ready, and what has it done?"""

import threading

import pytest
from fastapi.testclient import TestClient

from regionlm.encoder import RegionEncoder
from regionlm.errors import ModelError
from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.settings import Settings
from tests.regionlm.serve.pictures import encoded, picture


def figure(client, line):
    """The value of a line of /metrics."""
    lines = client.get("/metrics").text.splitlines()
    return next((float(one.rpartition(" ")[2]) for one in lines if one.startswith(line)), 0.0)


def test_the_process_is_alive(client):
    assert client.get("/health").json() == {"status": "ok"}


def test_a_service_is_ready_when_the_model_has_answered(client, engine):
    assert client.get("/ready").json() == {"status": "ready", "model": "mini"}
    assert engine.tally.answered == {"caption": 1}
    assert client.get("/ready").status_code == 200
    assert engine.tally.answered == {"caption": 1}  # asked only once


def test_a_model_without_captions_is_ready_too(mini):
    engine = Engine(RegionEncoder(mini.backbone, name="mini"))
    with TestClient(create_app(engine)) as client:
        assert client.get("/ready").status_code == 200
        image = encoded(picture())
        asked = {"image": image, "regions": [{"box": [0, 0, 9, 9]}]}
        assert client.post("/v1/embed", json=asked).status_code == 200
        reply = client.post("/v1/caption", json=asked)
        assert reply.status_code == 422 and "caption" in reply.json()["error"]["message"]
    engine.close()


def test_a_service_whose_model_fails_is_not_ready_until_it_works(
    client, engine, monkeypatch, caplog
):
    def fails(*_, **__):
        raise ModelError("/secret/weights: NaN")

    with monkeypatch.context() as patch:
        patch.setattr(engine.model, "caption_batch", fails)
        reply = client.get("/ready")
        assert reply.status_code == 503 and "secret" not in reply.text
    assert "/secret/weights" in caplog.text
    assert client.get("/ready").status_code == 200


def test_being_ready_starts_a_thread_that_has_ended(client, engine):
    assert client.get("/ready").status_code == 200
    engine._worker = threading.Thread(target=lambda: None)
    assert client.get("/ready").status_code == 200
    assert engine._worker.is_alive()


def test_a_closing_service_is_alive_but_not_ready(client, engine):
    assert client.get("/ready").status_code == 200
    engine.refuse()
    assert client.get("/ready").status_code == 503
    assert client.get("/health").status_code == 200
    reply = client.post("/v1/caption", json={})
    assert reply.status_code == 503 and reply.json()["error"]["code"] == "closing"


def test_figures_count_requests_questions_and_images_seen_before(client):
    asked = {"image": encoded(picture()), "regions": [{"box": [0, 0, 9, 9]}]}
    for _ in range(3):
        client.post("/v1/caption", json=asked)
    client.post("/v1/caption", json={})
    client.get("/no/such/path")
    assert figure(client, 'regionlm_requests_total{path="/v1/caption",status="200"}') == 3
    assert figure(client, 'regionlm_requests_total{path="/v1/caption",status="422"}') == 1
    assert figure(client, 'regionlm_requests_total{path="other",status="404"}') == 1
    assert figure(client, 'regionlm_request_seconds_count{path="/v1/caption"}') == 4
    assert figure(client, 'regionlm_questions_total{kind="caption"}') == 1
    assert figure(client, "regionlm_answer_hits_total") == 2
    assert figure(client, "regionlm_view_hits_total") == 2
    assert figure(client, "regionlm_view_misses_total") == 1
    assert figure(client, "regionlm_view_bytes") > 40 * 30 * 3


@pytest.mark.parametrize(
    ("settings", "asked", "status"),
    [
        ({}, {"content": b"{}", "headers": {"Content-Type": "text/plain"}}, 415),
        ({}, {"json": {}, "headers": {"Host": "evil.test"}}, 421),
        ({}, {"json": {}, "headers": {"Origin": "https://evil.test"}}, 403),
        ({"tokens": "tokens"}, {"json": {}}, 401),
    ],
)
def test_what_is_refused_before_it_has_a_route_is_counted(
    engine, tmp_path, monkeypatch, settings, asked, status
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tokens").write_text("a-token\n")
    app = create_app(engine, Settings(**settings))
    token = {"Authorization": "Bearer a-token"}
    with TestClient(app, base_url="http://127.0.0.1:8000") as client:
        assert client.post("/v1/caption", **asked).status_code == status
        client.headers.update(token)
        assert figure(client, f'regionlm_requests_total{{path="other",status="{status}"}}') == 1
        assert figure(client, 'regionlm_request_seconds_count{path="other"}') == 1


def test_refusals_while_stopping_and_faults_are_counted(client, engine, monkeypatch):
    def fails(*_):
        raise RuntimeError

    asked = {"image": encoded(picture()), "regions": [{"box": [0, 0, 9, 9]}]}
    with monkeypatch.context() as patch:
        patch.setattr(engine, "view", fails)
        assert client.post("/v1/caption", json=asked).status_code == 500
    engine.refuse()
    assert client.post("/v1/caption", json=asked).status_code == 503
    assert figure(client, 'regionlm_requests_total{path="/v1/caption",status="500"}') == 1
    assert figure(client, 'regionlm_requests_total{path="other",status="503"}') == 1


@pytest.mark.parametrize("path", ["/docs", "/openapi.json"])
def test_the_documentation_needs_nothing_from_elsewhere(client, path):
    text = client.get(path).text
    assert "cdn" not in text and "https://" not in text.replace("https://example.org", "")
    for part in (
        "/static-offline-docs/swagger-ui-bundle.js",
        "/static-offline-docs/swagger-ui.css",
    ):
        assert client.get(part).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        *("/v1/caption", "/v1/match", "/v1/embed", "/v1/explain", "/v1/segment"),
        "/v1/chat/completions",
    ],
)
def test_the_examples_run_as_they_stand(client, path):
    asked = client.get("/openapi.json").json()["paths"][path]["post"]["requestBody"]["content"]
    reply = client.post(path, json=asked["application/json"]["example"])
    assert reply.status_code == 200, reply.text


def test_the_schema_has_the_declared_ranges_choices_and_words(client):
    schemas = client.get("/openapi.json").json()["components"]["schemas"]
    options = schemas["CaptionOptions"]["properties"]
    (steps, _) = options["steps"]["anyOf"]
    assert steps["minimum"] == 0 and steps["maximum"] == 100_000
    assert "AdamW steps" in options["steps"]["description"]
    assert options["decoding"]["enum"] == ["greedy", "beam", "sample"]
    assert "checkpoint" not in options  # a file of the server's
    assert "alphaclip" not in options["embedder"]["enum"]
    assert schemas["CaptionRequest"]["required"] == ["image", "regions"]
