"""Who speaks to the user, in runs on several processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from regionlm.distributed import rank
from regionlm.distributed.rank import is_first_process, note_rank

ROOT = Path(__file__).parents[3]
STARTERS = ("RANK", "LOCAL_RANK", "SLURM_PROCID", "JSM_NAMESPACE_RANK")


@pytest.fixture(autouse=True)
def no_run(monkeypatch):
    monkeypatch.setattr(rank, "_noted", 0)
    for name in STARTERS:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize("name", STARTERS)
@pytest.mark.parametrize(("value", "first"), [("0", True), ("1", False), ("12", False), ("", True)])
def test_whoever_starts_processes_says_which_this_is(name, value, first, monkeypatch):
    monkeypatch.setenv(name, value)
    assert is_first_process(), "before a run begins, what surrounds the program does not matter"
    note_rank()
    assert is_first_process() is first
    note_rank(3)
    assert not is_first_process()
    note_rank(0)
    assert is_first_process()


def test_the_rank_of_all_processes_counts_before_that_on_a_machine(monkeypatch):
    monkeypatch.setenv("RANK", "8")
    monkeypatch.setenv("LOCAL_RANK", "0")
    note_rank()
    assert not is_first_process()


TWO = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
import lightning as L
from regionlm.distributed.trainer import new_trainer
from regionlm.distributed.rank import is_first_process, note_rank
note_rank()
before = is_first_process()
trainer = new_trainer("cpu", 2)
class Says(L.LightningModule):
    def predict_dataloader(self):
        return [0]
    def predict_step(self, batch, number):
        said = before, is_first_process(), trainer.is_global_zero
        Path(sys.argv[2], f"{trainer.global_rank}").write_text(repr(said))
        return number
    def on_predict_end(self):
        trainer.strategy.barrier()  # the second process has written before the first one ends
trainer.predict(Says(), return_predictions=False)
"""


@pytest.mark.long
def test_lightning_tells_its_processes_apart_as_we_do(tmp_path):
    script = tmp_path / "two.py"
    script.write_text(TWO)
    taken = (*STARTERS, "NODE_RANK", "WORLD_SIZE", "MASTER_PORT", "MASTER_ADDR")
    environment = {name: value for name, value in os.environ.items() if name not in taken}
    command = [sys.executable, str(script), str(ROOT), str(tmp_path)]
    subprocess.run(command, check=True, timeout=200, env=environment)
    assert (tmp_path / "0").read_text() == repr((True, True, True))
    assert (tmp_path / "1").read_text() == repr((False, False, False))


LAUNCHER = """
import os, subprocess, sys, time
code = "from regionlm.distributed.rank import end_with_launcher as end; end(); import time;"
code += "print('up', flush=True); time.sleep(60)"
worker = subprocess.Popen([sys.executable, "-c", code], env={**os.environ, "LOCAL_RANK": "1"})
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such signals")
def test_a_worker_ends_with_its_launcher():
    """Its end of the pipe closes when it ends, long before it has slept enough."""
    command = [sys.executable, "-c", LAUNCHER]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as launcher:
        assert launcher.stdout.readline() == "up\n"
        launcher.kill()
        launcher.wait()
        rest, _ = launcher.communicate(timeout=45)
    assert rest == ""
