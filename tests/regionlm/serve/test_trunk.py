"""A service with its trunk in half precision: its answers are Python's, and say so."""

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from safetensors import safe_open

from regionlm.auto import load_captioner
from regionlm.backbones.trunk_options import AS_USUAL, TrunkOptions
from regionlm.cli.main import main
from regionlm.errors import InputError
from regionlm.inputs.masks import box_region
from regionlm.inputs.views import ImageView
from regionlm.serve.app import create_app
from regionlm.serve.engine import Engine
from regionlm.serve.limits import Limits
from regionlm.serve.loading import load_model
from regionlm.serve.plan import Plan
from regionlm.serve.settings import Settings
from tests.regionlm.serve.openai.chats import LEFT, asking, box_mask, cut_out
from tests.regionlm.serve.pictures import encoded, picture
from tests.regionlm.serve.services import WAIT, running_service

HALF = TrunkOptions(precision="bfloat16")
BOX = [5, 5, 20, 20]
ASKED = {"image": encoded(picture(1)), "regions": [{"box": BOX}]}


@pytest.fixture(scope="module")
def half():
    """What the service must agree with."""
    return load_captioner("mini", trunk=HALF, device="cpu")


@pytest.fixture(scope="module")
def client():
    plan = Plan("mini", Settings(), Limits(), device="cpu", trunk=HALF)
    app, engine, log = plan.build()
    with TestClient(app) as client:
        yield client
    engine.close()
    log.close()


def region():
    return [box_region(BOX, picture(1).size)]


def test_a_vector_is_the_one_of_python_and_no_other(client, half, mini):
    found = client.post("/v1/embed", json=ASKED).json()
    vector = np.array(found["data"][0]["embedding"], np.float32)
    wanted, usual = (one.embed(picture(1), region()).embeddings[0].numpy() for one in (half, mini))
    np.testing.assert_allclose(vector, wanted, atol=1e-4)
    assert np.abs(vector - usual).max() > 1e-3  # else the line above would prove nothing
    assert found["precision"] == "bfloat16" and "compile" not in found


def test_every_reply_says_so(client, tmp_path):
    asked = {"caption": {}, "match": {"texts": ["a dog"]}, "explain": {"texts": ["a dog"]}}
    for kind, more in asked.items():
        assert client.post(f"/v1/{kind}", json=ASKED | more).json()["precision"] == "bfloat16"
    streamed = client.post("/v1/caption", json={**ASKED, "stream": True}).text
    assert '"precision": "bfloat16"' in streamed.partition("event: done")[2]
    file = tmp_path / "found.safetensors"
    file.write_bytes(client.post("/v1/embed", json={**ASKED, "format": "raw"}).content)
    with safe_open(file, "np") as found:
        assert found.metadata()["precision"] == "bfloat16"
    cut = cut_out(picture(1), box_mask(picture(1), LEFT))
    chat = {"model": "mini", "messages": asking(cut)}
    assert client.post("/v1/chat/completions", json=chat).json()["precision"] == "bfloat16"
    last = client.post("/v1/chat/completions", json={**chat, "stream": True}).text
    assert last.count('"precision": "bfloat16"') == 1


def test_nothing_is_said_of_the_usual_trunk(engine):
    with TestClient(create_app(engine)) as usual:
        assert "precision" not in usual.post("/v1/caption", json=ASKED).json()


def test_answers_of_another_trunk_are_not_given_again():
    captioner = load_captioner("mini", device="cpu")
    engine, view = Engine(captioner), ImageView(picture(1))

    def vector():
        (found,) = engine.blocking.embed(view, region()).embeddings
        return found

    usual = vector()
    captioner.backbone.set_trunk(precision="bfloat16")
    assert not vector().equal(usual)
    captioner.backbone.set_trunk()
    assert vector().equal(usual) and engine.answers.hits == 1
    engine.close()


@pytest.mark.parametrize("source", ["mini", "mini-siglip"])
def test_models_of_all_kinds_are_loaded_so(source):
    loaded = load_model(source, trunk=HALF, device="cpu")
    assert loaded.backbone.trunk_options == HALF
    assert load_model(source, device="cpu").backbone.trunk_options == AS_USUAL


def test_a_trunk_of_no_use_is_refused_before_a_model_is_sought():
    with pytest.raises(InputError, match="precision: expected float32 or bfloat16 on a CPU"):
        load_model("none", trunk=TrunkOptions(precision="float16"), device="cpu")


def test_the_command_refuses_it_in_one_line(capsys, tmp_path):
    options = ["--log", str(tmp_path / "log"), "--device", "cpu", "--model", "none"]
    assert main(["serve", *options, "--precision", "float16"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("regionlm: error: --precision: expected float32 or bfloat16 on a CPU")


@pytest.mark.long
@pytest.mark.parametrize("devices", [(), ("--devices", "1")])
def test_the_command_passes_it_on(devices):
    with running_service(*devices, "--precision", "bfloat16") as service:
        reply = httpx.post(f"{service.url}/v1/caption", json=ASKED, timeout=WAIT)
        assert reply.json()["precision"] == "bfloat16"
