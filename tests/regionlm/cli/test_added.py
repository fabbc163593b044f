"""Commands that distributions add, by entry points."""

import json
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from regionlm.cli.added import GROUP, added_commands, docstring_summary, summaries
from regionlm.cli.main import COMMANDS, main

_ROOT = Path(__file__).parents[3]

PLUGIN = '''
from prefix_models.errors import UserError

def greet(argv):
    """Say hello.

    More than a line.
    """
    print("hello", *argv)
    return 3 if argv else None

def refuse(argv):
    """Refuse."""
    raise UserError("not\\n  today")
'''


@pytest.fixture
def install(tmp_path, monkeypatch):
    """A function that installs a distribution with some commands, by name and entry point."""
    (tmp_path / "greeting_plugin.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))

    def write(commands: dict[str, str]) -> None:
        info = tmp_path / "greeting_plugin-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text("Metadata-Version: 2.1\nName: greeting-plugin\nVersion: 1\n")
        lines = [f"{name} = {place}" for name, place in commands.items()]
        (info / "entry_points.txt").write_text("\n".join([f"[{GROUP}]", *lines]))

    yield write
    sys.modules.pop("greeting_plugin", None)


def test_anybody_can_add_a_command(install, capsys):
    install({"greet": "greeting_plugin:greet"})
    assert main(["greet"]) == 0
    assert main(["greet", "--help", "you"]) == 3
    assert capsys.readouterr().out == "hello\nhello --help you\n"
    assert summaries(added_commands())["greet"] == "Say hello."


def test_what_it_refuses_is_one_line(install, capsys):
    install({"refuse": "greeting_plugin:refuse"})
    assert main(["refuse"]) == 2
    assert capsys.readouterr() == ("", "regionlm: error: not today\n")


def test_one_that_cannot_be_imported_harms_no_other(install, capsys):
    install({"broken": "greeting_plugin.nothing:such", "greet": "greeting_plugin:greet"})
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    told = " ".join(capsys.readouterr().out.split())
    assert ended.value.code == 0 and "greet Say hello." in told
    assert "broken Cannot be imported from greeting_plugin.nothing:such (ModuleNotFound" in told
    with pytest.raises(ModuleNotFoundError):
        main(["broken"])


def test_none_takes_the_place_of_our_own(install, capsys):
    install({"caption": "greeting_plugin:greet"})
    assert main(["caption"]) == 2 and "no image given" in capsys.readouterr().err
    assert "caption" not in added_commands(but=COMMANDS)


def test_pyproject_adds_ours():
    tomllib = pytest.importorskip("tomllib", reason="Python 3.11 brought it")
    project = tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    ours = project["entry-points"][GROUP]
    assert list(ours) == ["eval", "report", "train"]
    for name, place in ours.items():
        module, _, attribute = place.partition(":")
        command = getattr(import_module(module), attribute)
        assert callable(command) and docstring_summary(command).endswith(".")
        assert added_commands()[name].value == place, "reinstall: pip install --no-deps -e ."


def test_help_lists_ours_and_loads_nothing_heavy():
    code = (
        "import json, sys\nfrom regionlm.cli.main import main\n"
        "assert not {'eval', 'training'} & set(sys.modules)\n"
        "try: main(['--help'])\nexcept SystemExit: pass\n"
        "print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=_ROOT, capture_output=True, text=True, check=True
    )
    *told, modules = done.stdout.splitlines()
    text = " ".join(" ".join(told).split())
    assert "eval Evaluate an embedder on a dataset" in text
    assert "report Print tables of finished evaluations" in text
    assert "train Train a prefix model" in text
    assert not {"torch", "transformers", "lightning", "matplotlib"} & set(json.loads(modules))
