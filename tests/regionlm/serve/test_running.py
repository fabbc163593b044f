"""`regionlm serve` as a process: slow clients, clients that go, and its end."""

import json
import os
import socket
import subprocess
import sys
import time
from http.client import HTTPConnection
from threading import Thread

import pytest

from regionlm.cli.main import main
from regionlm.serve.engine import Engine
from regionlm.serve.limits import Limits
from regionlm.serve.listening import listen
from regionlm.serve.running import warm_up
from regionlm.serve.settings import Settings
from tests.documents import ROOT
from tests.regionlm.serve.pictures import encoded, picture
from tests.regionlm.serve.services import WAIT, running_service

BOX = {"box": [0, 0, 9, 9]}
JSON = {"Content-Type": "application/json"}


def body(seed=0, **more):
    return json.dumps({"image": encoded(picture(seed)), "regions": [BOX], **more}).encode()


def connect(service):
    return HTTPConnection(service.host, service.port, timeout=WAIT)


def ask(service, method="POST", path="/v1/caption", content=None):
    """(status, text) of a reply."""
    connection = connect(service)
    connection.request(method, path, content, JSON)
    with connection.getresponse() as reply:
        found = reply.status, reply.read().decode()
    connection.close()
    return found


def figure(service, name):
    lines = ask(service, "GET", "/metrics")[1].splitlines()
    return next((float(one.rpartition(" ")[2]) for one in lines if one.startswith(name)), 0.0)


def wait_for(service, name, least):
    """Until a figure of /metrics is as large."""
    latest = time.monotonic() + WAIT
    while figure(service, name) < least:
        assert time.monotonic() < latest, name
        time.sleep(0.05)


@pytest.fixture(scope="module")
def service():
    with running_service("--client_timeout", "2", "--warmup") as service:
        yield service


def test_a_client_that_sends_its_head_too_slowly_is_cut_off(service):
    with socket.create_connection((service.host, service.port), WAIT) as slow:
        slow.sendall(b"POST /v1/caption HTTP/1.1\r\nHost: ")
        assert slow.recv(100) == b""
    with socket.create_connection((service.host, service.port), WAIT) as slow:
        slow.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b"200" in slow.recv(1000)
        slow.sendall(b"GET /health HTTP/1.1\r\nHo")  # the next one, on the same connection
        received = b"x"
        while received:
            received = slow.recv(1000)
    assert ask(service, "GET", "/health")[0] == 200


def test_a_body_that_comes_too_slowly_is_refused(service):
    with socket.create_connection((service.host, service.port), WAIT) as slow:
        head = b"Host: localhost\r\nContent-Type: application/json\r\nContent-Length: 99"
        slow.sendall(b"POST /v1/caption HTTP/1.1\r\n" + head + b"\r\n\r\n{")
        assert b"408" in slow.recv(1000)
    assert ask(service, content=body())[0] == 200


def test_a_client_that_goes_in_mid_stream_stops_its_work(service):
    options = {"min_new_tokens": 20, "max_new_tokens": 20}
    connection = connect(service)
    connection.request("POST", "/v1/caption", body(1, stream=True, options=options), JSON)
    reply = connection.getresponse()
    assert reply.readline() == b"event: piece\n"
    reply.close()
    connection.close()
    assert ask(service, content=body(2))[0] == 200
    wait_for(service, 'regionlm_requests_total{path="/v1/caption",status="200"}', 2)


def test_a_service_that_is_told_to_stop_finishes_what_runs():
    with running_service() as service:
        replies = {}

        def client(seed):
            content = body(seed, options={"steps": 100})
            replies[seed] = ask(service, content=content)[0]

        threads = [Thread(target=client, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        wait_for(service, "regionlm_view_misses_total", 6)  # all have arrived
        service.terminate()
        try:
            late = ask(service, content=body(9))[0]
        except OSError:
            late = 503  # it has ended
        for thread in threads:
            thread.join()
        assert set(replies.values()) == {200} and len(replies) == 6 and late == 503
        assert service.ended() == 0


def test_a_port_that_is_taken_is_named_in_one_line(service, capsys, tmp_path):
    options = ["--host", service.host, "--port", str(service.port), "--log", str(tmp_path / "log")]
    assert main(["serve", *options]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"--port {service.port}" in line and "take another port" in line


def test_a_host_that_is_not_this_machine_is_named_in_one_line(capsys, tmp_path):
    host = "192.0.2.1"  # of documentation: nobody has it
    assert main(["serve", "--host", host, "--log", str(tmp_path / "log")]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"--host {host}" in line and "take another host" in line


@pytest.mark.parametrize(
    "options", [["--max_regions", "0"], ["--port", "99999"], ["--timeout", "-1"], ["--model", "x"]]
)
def test_bad_options_are_named_in_one_line(options, capsys, tmp_path):
    assert main(["serve", "--log", str(tmp_path / "log"), *options]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_a_warm_up_may_take_longer_than_an_answer(mini):
    engine = Engine(mini, Limits(timeout=0.01))
    warm_up(engine)
    assert sum(engine.tally.answered.values()) == 1 + engine.limits.max_batch
    engine.close()


def test_nothing_of_websockets_is_imported(tmp_path):
    """It would be by default, and warn that it is deprecated, wherever it is installed."""
    program = """
import sys, threading, time, urllib.request
from regionlm.serve.limits import Limits
from regionlm.serve.listening import address_of, listen
from regionlm.serve.plan import Plan
from regionlm.serve.running import serve_on
from regionlm.serve.settings import Settings

def look():
    urllib.request.urlopen(address + "/health", timeout=60).read()
    print(sorted(one for one in sys.modules if one.startswith(("websockets", "wsproto"))))
    service.engine.refuse()

service = Plan("mini", Settings(log="log"), Limits(), device="cpu").build()
with listen(Settings(port=0)) as listening:
    address = address_of(listening)
    threading.Thread(target=look, daemon=True).start()
    serve_on(service.app, service.engine, listening)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=5 * WAIT,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_a_reply_does_not_wait_for_the_receipt_of_its_first_part():
    with (
        listen(Settings(port=0)) as listening,
        socket.create_connection(listening.getsockname()),
        listening.accept()[0] as accepted,
    ):
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
