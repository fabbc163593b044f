"""One run at a time in a folder."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from regionlm.distributed.run_folder import LOCK, held
from regionlm.errors import InputError

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="has no such locks")


def test_a_second_run_is_refused_and_names_the_first(tmp_path: Path) -> None:
    with held(tmp_path):
        with pytest.raises(InputError) as caught, held(tmp_path):
            pass
        said = f"another run is using it (process {os.getpid()} on {platform.node()})"
        assert said in str(caught.value) and "\n" not in str(caught.value)
    with held(tmp_path):
        assert [path.name for path in tmp_path.iterdir()] == [LOCK]
    assert not list(tmp_path.iterdir())


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path\n"
        "from regionlm.distributed.run_folder import held\n"
        "with held(Path(sys.argv[1])): print('held', flush=True); time.sleep(600)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    root = Path(__file__).parents[3]
    with subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None and process.stdout.readline() == "held\n"
            with pytest.raises(InputError, match=f"process {process.pid} on"), held(tmp_path):
                pass
        finally:
            process.send_signal(signal.SIGKILL)
    with held(tmp_path):
        pass


def test_a_folder_that_is_removed_meanwhile_is_let_go(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    with held(folder):
        (folder / LOCK).unlink()
        folder.rmdir()
        with pytest.raises(InputError, match="run cannot be written: No such file"), held(folder):
            pass
    assert not folder.exists()
