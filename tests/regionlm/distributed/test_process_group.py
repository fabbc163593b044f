"""How processes part; that a run of several leaves stderr empty is in `tests/eval/runs`."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
# Exit handlers run in reverse order, so this one sees what ours has left.
PROGRAM = """
import atexit
from torch import distributed
atexit.register(lambda: print(distributed.is_initialized()))
from regionlm.distributed.trainer import new_trainer
new_trainer("cpu", 1)
distributed.init_process_group("gloo", store=distributed.HashStore(), rank=0, world_size=1)
"""


def test_a_program_closes_its_process_group_before_python_ends():
    """Threads of gloo abort the process if they outlive the interpreter."""
    command = [sys.executable, "-c", PROGRAM]
    done = subprocess.run(
        command, check=True, cwd=ROOT, env=os.environ, capture_output=True, text=True, timeout=300
    )
    assert done.stdout.splitlines()[-1] == "False"  # torch 2.9 prints lines of gloo's before it
