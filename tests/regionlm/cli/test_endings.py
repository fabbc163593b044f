"""The command line: how it ends."""

import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

import regionlm.cli.main
from prefix_models.errors import PrefixModelWarning
from regionlm.cli.main import main
from regionlm.cli.printing import print_json
from regionlm.datasets.data_errors import DataWarning
from regionlm.errors import InputError, ModelWarning

_ROOT = Path(__file__).parents[3]


def _raise(error: BaseException) -> Callable[..., None]:
    def command(*parts: object) -> None:
        raise error

    return command


def _main_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> int:
    command = _raise(error)
    command.__annotations__ = {}
    monkeypatch.setattr(regionlm.cli.main, "COMMANDS", {"fail": command})
    return main(["fail"])


def test_messages_are_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main_with(monkeypatch, InputError("first\n  second")) == 2
    assert capsys.readouterr().err == "regionlm: error: first second\n"


def test_bugs_keep_their_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="a bug"):
        _main_with(monkeypatch, ValueError("a bug"))


def test_doubts_about_weights_and_data_are_shown(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command() -> None:
        warnings.warn("a developer's notice", RuntimeWarning, stacklevel=1)
        warnings.warn("which GELU?", ModelWarning, stacklevel=1)
        warnings.warn("2 images\n instead of 3", DataWarning, stacklevel=1)
        warnings.warn("no cache", PrefixModelWarning, stacklevel=1)

    monkeypatch.setattr(regionlm.cli.main, "COMMANDS", {"doubt": command})
    assert main(["doubt"]) == 0
    said = ["which GELU?", "2 images instead of 3", "no cache"]
    assert capsys.readouterr().err.splitlines() == [f"regionlm: warning: {one}" for one in said]


def test_interrupting_is_quiet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _main_with(monkeypatch, KeyboardInterrupt()) == 130
    assert capsys.readouterr() == ("", "")


def test_a_closed_pipe_is_quiet() -> None:
    code = (
        "import sys, regionlm.cli.main as cli\n"
        "def flood() -> None:\n    print('x' * 1_000_000)\n"
        "cli.COMMANDS = {'flood': flood}\nsys.exit(cli.main(['flood']))"
    )
    reader, writer = os.pipe()
    os.close(reader)
    done = subprocess.run(
        [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, cwd=_ROOT
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_closed_output_is_refused_before_the_work(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", None)
    assert _main_with(monkeypatch, KeyError("it was run")) == 2
    assert capsys.readouterr().err == (
        "regionlm: error: standard output is closed: open it, or send it to /dev/null\n"
    )


@pytest.mark.parametrize(
    ("encoding", "written"),
    [
        ("utf-8", "aé日 ".encode() + b"\xff"),
        ("ascii", rb"a\xe9\u65e5 " + b"\xff"),
        ("latin-1", b"a\xe9" + rb"\u65e5 " + b"\xff"),
    ],
)
def test_any_name_can_be_printed(
    monkeypatch: pytest.MonkeyPatch, encoding: str, written: bytes
) -> None:
    text = os.fsdecode("aé日 ".encode() + b"\xff")

    def command() -> None:
        print(text)
        print_json({"image": text})

    binary = io.BytesIO()
    stream = io.TextIOWrapper(binary, encoding=encoding, errors="strict")
    monkeypatch.setattr(regionlm.cli.main, "COMMANDS", {"say": command})
    monkeypatch.setattr(sys, "stdout", stream)
    assert main(["say"]) == 0 and stream.errors == "strict"
    first, second = binary.getvalue().splitlines()
    assert first == written
    assert json.loads(second.decode(encoding)) == {"image": text}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_output_that_has_no_room_is_one_line() -> None:
    code = (
        "import sys, regionlm.cli.main as cli\n"
        "def say() -> None: print('x')\n"
        "cli.COMMANDS = {'say': say}\nsys.exit(cli.main(['say']))"
    )
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, cwd=_ROOT
        )
    message = b"regionlm: error: standard output cannot be written: No space left on device\n"
    assert (done.returncode, done.stderr) == (2, message)
