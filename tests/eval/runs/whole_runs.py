"""Runs on the bundled benchmark with the bundled model."""

import json
import os
import sys
from pathlib import Path

from eval.run_settings import Data, EmbedderSource, Machines, Run

ROOT = Path(__file__).parents[3]


ONE_THREAD = {**os.environ, "OMP_NUM_THREADS": "1"}


def a_run(output, task="referring", limit=6, **settings):
    settings.setdefault("embedder", EmbedderSource("maskinversion", {"steps": 2}))
    machines = Machines(accelerator="cpu", progress=False)
    data = Data("mini", workers=0)
    return Run(task, data, output, trainer=machines, limit=limit, **settings)


def eval_command(output, *options, task="captioning", limit=7):
    return [
        sys.executable, "-m", "regionlm", "eval", "--task", task, "--data.name", "mini",
        "--data.workers", "0", "--output", str(output), "--limit", str(limit),
        "--trainer.accelerator", "cpu", "--trainer.progress", "false", *options,
    ]  # fmt: skip


def assert_same(left, right):
    results = [json.loads((folder / "result.json").read_text()) for folder in (left, right)]
    assert results[0]["metrics"] == results[1]["metrics"]
    assert results[0]["counts"] == results[1]["counts"]
    assert (left / "samples.jsonl").read_bytes() == (right / "samples.jsonl").read_bytes()
