"""`regionlm doctor`: what it prints, and how it ends."""

import json
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from regionlm.cli.main import main

_ROOT = Path(__file__).parents[3]
_OF_EXTRAS = ["lightning", "pycocotools", "torchmetrics", "scipy", "matplotlib", "nltk", "peft"]


def test_as_text(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tiny_bundle.parent))
    assert main(["doctor", "--model", str(tiny_bundle), "--device", "cpu", "--offline"]) == 0
    out, err = capsys.readouterr()
    lines = out.splitlines()
    assert err == "" and lines[-1] == "all is well"
    assert lines[0] == f"regionlm {metadata.version('regionlm')}"
    assert "       model ~/tiny" in "\n".join(lines) and str(tiny_bundle) not in out


def test_as_json_and_without_extras() -> None:
    """In a process of its own, in which no extra can be imported."""
    code = (
        f"import sys\nsys.modules.update(dict.fromkeys({_OF_EXTRAS}))\n"
        "from regionlm.cli.main import main\n"
        "sys.exit(main(['doctor', '--json', '--offline', '--device', 'cpu']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    report = json.loads(done.stdout)
    assert report["faults"] == []
    assert set(report["sections"]) == {"versions", "extras", "machine", "files", "model mini"}
    captions = [row for row in report["sections"]["model mini"] if row["name"] == "caption"]
    assert captions == [
        {
            "name": "caption",
            "found": '"a fish on the sand"',
            "expected": '"a fish on the sand"',
            "state": "ok",
            "note": "",
        }
    ]


def test_a_broken_bundle_ends_with_1(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--model", str(tmp_path), "--offline"]) == 1
    out, err = capsys.readouterr()
    last = out.splitlines()[-1]
    assert err == "" and last.startswith("1 thing is wrong: model failed: ")
    assert "config.json" in last


def test_a_version_that_is_too_old_ends_with_1(
    tiny_bundle: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    right = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "0.0.1" if name == "transformers" else right(name)
    )
    assert main(["doctor", "--model", str(tiny_bundle), "--offline"]) == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith("1 thing is wrong: transformers 0.0.1: older than regionlm asks for (")


@pytest.mark.parametrize(
    "argv", [["--device", "gpu"], ["--nope"], ["mini"], ["--config", "there-is-none.yaml"]]
)
def test_bad_usage_ends_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", *argv]) == 2
    out, err = capsys.readouterr()
    assert out == "" and len(err.splitlines()) == 1


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom regionlm.cli.main import main\n"
        "try: main(['doctor', '--help'])\nexcept SystemExit: pass\n"
        "import regionlm.doctor\n"
        "heavy = {'torch', 'transformers', 'numpy', 'PIL', 'huggingface_hub'} & set(sys.modules)\n"
        "sys.exit(str(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_ROOT)
    assert (done.returncode, done.stderr) == (0, "") and "--offline" in done.stdout
