"""The service on Ray Serve: two replicas of which one is killed, and its configuration."""

import base64
import io
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from importlib import import_module

import httpx
import numpy as np
import pytest
import yaml
from PIL import Image
from ray import serve
from ray.serve.schema import ServeDeploySchema

from regionlm.errors import InputError
from regionlm.inputs.masks import box_region
from regionlm.serve.deployment import app
from tests.ports import free_port
from tests.regionlm.ray_cluster import ROOT, started

REPLICA = "ServeReplica"  # in the name of their processes
BOX = (2, 2, 30, 25)
PATIENCE = 240  # seconds: an idle machine takes a tenth


@pytest.fixture(scope="module")
def address(ray_cluster: None) -> Iterator[str]:
    """Where two replicas of `mini` answer."""
    port = free_port()
    serve.start(http_options={"host": "127.0.0.1", "port": port})
    two = {"device": "cpu", "min_replicas": "2", "max_replicas": "2", "warmup": "true"}
    serve.run(app({**two, "timeout": PATIENCE}))
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()


def _picture(number: int) -> Image.Image:
    pixels = np.random.default_rng(number).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def _question(number: int) -> dict:
    data = io.BytesIO()
    _picture(number).save(data, "PNG")
    image = base64.b64encode(data.getvalue()).decode()
    return {"image": image, "regions": [{"box": list(BOX)}], "options": {"steps": 2}}


def _ask(address: str, number: int) -> httpx.Response:
    return httpx.post(f"{address}/v1/caption", json=_question(number), timeout=PATIENCE)


@pytest.mark.long
def test_a_killed_replica_costs_its_own_requests_and_comes_back(address: str, mini) -> None:
    wanted = mini.caption(_picture(0), box_region(BOX, (40, 30)), steps=2)[0]
    answer = _ask(address, 0)
    assert answer.status_code == 200 and answer.headers["X-Request-ID"]
    [region] = answer.json()["regions"]
    assert region["caption"] == wanted.text
    assert region["logprob"] == pytest.approx(wanted.logprob, abs=1e-4)
    before = started(REPLICA)
    assert len(before) == 2
    statuses: Counter[int] = Counter()
    over = threading.Event()

    def client(which: int) -> None:
        number = which
        while not over.is_set():
            number += 10
            statuses[_ask(address, number).status_code] += 1

    clients = [threading.Thread(target=client, args=[which]) for which in range(4)]
    for one in clients:
        one.start()
    try:
        _wait(lambda: statuses[200] >= 8)
        os.kill(before[0], signal.SIGKILL)
        after = statuses[200]
        _wait(lambda: statuses[200] >= after + 20)
        _wait(lambda: len(set(started(REPLICA)) - {before[0]}) == 2)
        _wait(lambda: serve.status().applications["default"].status == "RUNNING")
    finally:
        over.set()
        for one in clients:
            one.join()
    assert set(statuses) <= {200, 500, 503}, statuses
    assert sum(statuses.values()) - statuses[200] <= len(clients), statuses
    assert [_ask(address, number).status_code for number in range(6)] == [200] * 6


JSON = {"Content-Type": "application/json"}


def _wait(is_so: Callable[[], bool]) -> None:
    latest = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < latest
        time.sleep(0.1)


def test_a_request_that_is_wrong_has_our_answer(address: str) -> None:
    answer = httpx.post(f"{address}/v1/caption", content=b"{", headers=JSON, timeout=PATIENCE)
    assert answer.status_code == 400
    assert answer.json()["error"]["type"] == "invalid_request_error"


# --- without a cluster ---------------------------------------------------------------------


def test_the_configuration_for_kuberay_builds_the_app() -> None:
    config = yaml.safe_load((ROOT / "configs/serve/kuberay.yaml").read_text())
    assert (config["apiVersion"], config["kind"]) == ("ray.io/v1", "RayService")
    service = ServeDeploySchema.model_validate(yaml.safe_load(config["spec"]["serveConfigV2"]))
    [one] = service.applications
    module, _, name = one.import_path.partition(":")
    built = getattr(import_module(module), name)(one.args)
    assert isinstance(built, serve.Application)
    cluster = config["spec"]["rayClusterConfig"]
    containers = [
        group["template"]["spec"]["containers"][0]
        for group in (cluster["headGroupSpec"], *cluster["workerGroupSpecs"])
    ]
    assert all(part["image"] == "regionlm:latest" for part in containers)
    assert "nvidia.com/gpu" in containers[1]["resources"]["limits"]
    assert service.http_options.port in [part["containerPort"] for part in containers[0]["ports"]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"modell": "mini"}, "modell: no such argument; expected precision, compile, model"),
        ({"port": 80}, "port: no such argument"),
        ({"max_replicas": "none"}, "max_replicas: expected"),
        ({"min_replicas": 3, "max_replicas": "2"}, "min_replicas: expected at most 2"),
        ({"device": "cuda:1"}, "device: expected"),
        ({"max_queue": 0}, "max_queue: expected"),
        ({"precision": "float16"}, "precision: expected float32 or bfloat16 on a CPU"),
    ],
)
def test_arguments_that_cannot_be_used(arguments: dict, message: str) -> None:
    with pytest.raises(InputError) as caught:
        app(arguments)
    assert message in str(caught.value) and "\n" not in str(caught.value)
