"""Each case of bad input must end with exit code 2 and one line on stderr that names what is wrong,
print nothing on stdout, and leave no file behind.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from regionlm.cli.main import main

Refused = Callable[..., str]


@pytest.fixture
def refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Refused:
    """Run a command in tmp_path, check everything common to refusals, return the message."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> str:
        before = _files(tmp_path)
        code = main([str(arg) for arg in argv])
        printed = capsys.readouterr()
        assert code == 2
        assert printed.out == ""
        assert printed.err.startswith("regionlm: error: ")
        assert printed.err.count("\n") == 1 and printed.err.endswith("\n")
        assert "Traceback" not in printed.err
        assert _files(tmp_path) == before
        return printed.err

    return run


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    found = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in found}
