"""What deploy/ says fits this repository; nothing is built."""

import json
import re

import pytest
import yaml

from regionlm.cli.main import COMMANDS
from regionlm.cli.parser import parse
from tests.documents import ROOT, page

DOCKERFILE = page("deploy/Dockerfile")
COMPOSE = yaml.safe_load(page("deploy/compose.yaml"))


def instructions(name):
    lines = re.sub(r"\\\n", " ", DOCKERFILE).splitlines()
    return [line.split(maxsplit=1)[1].strip() for line in lines if line.strip().startswith(name)]


def test_what_is_copied_is_there_and_not_ignored():
    ignored = page("deploy/Dockerfile.dockerignore").split()
    for line in instructions("COPY"):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists() and f"!{source}" in ignored


@pytest.mark.parametrize("command", [instructions("CMD")[-1], COMPOSE["services"]["regionlm"]])
def test_the_command_is_one_of_ours(command):
    words = json.loads(command) if isinstance(command, str) else command["command"]
    parse(COMMANDS, words, description="", version="", others={})


def test_prometheus_asks_the_service():
    port = instructions("EXPOSE")[0]
    config = yaml.safe_load(page("deploy/prometheus.yml"))
    (job,) = config["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"regionlm:{port}"]}]
    assert COMPOSE["services"]["regionlm"]["ports"] == [f"127.0.0.1:{port}:{port}"]
