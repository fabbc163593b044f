"""The command line: what it accepts, and its help (refusals: `bad_input/`)."""

import re
import resource
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_type_hints

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regionlm.cli.main import COMMANDS, main
from regionlm.cli.options import Bulk
from regionlm.cli.parser import UsageError, parse

_ROOT = Path(__file__).parents[3]


def _parse(*argv: str) -> list[object]:
    return parse(COMMANDS, argv, description="", version="0")[1]


PRINTABLE = st.characters(exclude_categories=("C", "Z"), include_characters=" ")
VALUES = st.lists(
    st.text(PRINTABLE, min_size=1).filter(lambda text: not text.startswith("--")),
    min_size=1,
    max_size=4,
)


@settings(max_examples=30)  # a parser is built for each
@given(masks=VALUES, boxes=VALUES, order=st.randoms())
def test_repeated_flags_keep_every_value_as_written(
    masks: list[str], boxes: list[str], order: object
) -> None:
    flags = [("--mask", mask) for mask in masks] + [("--box", box) for box in boxes]
    order.shuffle(flags)
    query = _parse("caption", *[part for flag in flags for part in flag], "image.png")[0]
    assert query.image == "image.png"
    for name, values in (("--mask", masks), ("--box", boxes)):
        found = getattr(query, name[2:])
        assert found == [value for flag, value in flags if flag == name]
        assert sorted(found) == sorted(values)


@pytest.mark.parametrize(
    "value", ["null", "1", "[a, b]", "{a: 1}", "true", "-1,0,3,4", "é\t☃", "#"]
)
def test_values_that_look_like_yaml_stay_text(value: str) -> None:
    assert _parse("match", "i.png", "--text", value, f"--text={value}")[3].text == [value] * 2


@pytest.mark.parametrize(
    "argv",
    [
        ["i.png", "--mask", "a", "b", "c", "--json"],
        ["i.png", "--json", "--mask", "a", "b", "--mask", "c"],
        ["--mask", "a", "--json", "i.png", "--mask", "b", "c"],
        ["--mask", "a", "i.png", "--mask=b", "--json", "--mask", "c"],
        ["--steps", "3", "--mask", "a", "--mask", "b", "i.png", "--json", "--mask", "c"],
        ["--json", "--mask", "a", "--mask", "b", "--mask", "c", "--", "i.png"],
    ],
)
def test_several_values_may_follow_one_flag_after_the_image(argv: list[str]) -> None:
    query, *_, output, _ = _parse("caption", *argv)
    assert (query.image, query.mask) == ("i.png", ["a", "b", "c"])
    assert output.json


def test_a_flag_without_its_value() -> None:
    for argv in (["i.png", "--mask"], ["i.png", "--mask", "--json"]):
        with pytest.raises(UsageError, match="--mask: expected a value after it"):
            _parse("caption", *argv)


def test_config_file_keys_are_the_options(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text(
        "image: i.png\nmask: [a.png]\nbox: ['0,0,1,1']\nsteps: 7\nsize: [64, 32]\n"
        "decoding: beam\njson: true\noffline: true\n"
    )
    query, model, embedding, decoding, output, _ = _parse("caption", "--config", str(config))
    assert (query.image, query.mask, query.box) == ("i.png", ["a.png"], ["0,0,1,1"])
    assert (model.offline, embedding.steps, embedding.size) == (True, 7, (64, 32))
    assert (decoding.decoding, output.json) == ("beam", True)
    overridden = _parse("caption", "j.png", "--config", str(config), "--mask", "b", "--steps", "2")
    assert (overridden[0].image, overridden[0].mask) == ("j.png", ["b"])
    assert overridden[2].steps == 2
    assert overridden[3].decoding == "beam"


def test_a_manifest_may_come_from_a_config_file(tmp_path: Path) -> None:
    config = tmp_path / "c.yaml"
    config.write_text("manifest: m.jsonl\noutput: o.jsonl\nskip_bad: true\nworkers: 0\n")
    query, *_, bulk = _parse("caption", "--config", str(config), "--devices", "3")
    assert query.image is None
    assert bulk == Bulk("m.jsonl", "o.jsonl", devices=3, workers=0, skip_bad=True)


@pytest.mark.parametrize("text", ["no_such: 1", "steps: x", "mask: a.png", "json: maybe", "[", "x"])
def test_config_file_mistakes(tmp_path: Path, text: str) -> None:
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        _parse("caption", "i.png", "--config", str(tmp_path / "c.yaml"))
    assert "\n" not in str(caught.value)


def test_printed_configuration_can_be_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["caption", "i.png", "--mask", "a", "--box", "0,0,1,1", "--lr", "0.3", "--json"]
    with pytest.raises(SystemExit) as caught:
        main([*argv, "--print_config"])
    assert caught.value.code == 0
    (tmp_path / "c.yaml").write_text(capsys.readouterr().out)
    assert _parse("caption", "--config", str(tmp_path / "c.yaml")) == _parse(*argv)


def test_a_printed_template_has_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["caption", "--print_config"], ["caption", "--print_config", "i.png"]):
        with pytest.raises(SystemExit):
            main(argv)
        keys = [line.split(":")[0] for line in capsys.readouterr().out.splitlines()]
        wanted = [f.name for part in get_type_hints(COMMANDS["caption"]).values()
                  if is_dataclass(part) for f in fields(part)]  # fmt: skip
        assert keys[0] == "image" and sorted(keys) == sorted(wanted)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_documents_every_option(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    options = re.findall(r"^  (?:-h, )?(--\w+|image|name)(.*\n(?: {10}.*\n)*)", text, re.MULTILINE)
    wanted = {"--model", "--device", "--offline"}
    if command == "models":
        wanted = {"name", "--all", "--json"}
    elif command == "tools":
        wanted = {"--format"}
    elif command not in ("doctor", "serve", "mcp"):  # which ask about no picture
        wanted |= {"image", "--mask", "--box", "--steps"}
    assert wanted <= {n for n, _ in options}
    for name, description in options:
        assert len(re.sub(r"\((required|type).*", "", description, flags=re.DOTALL)) > 12, name
    assert "ITEM" not in text


@pytest.mark.parametrize("argv", [["--help"], ["caption", "--help"], ["--version"]])
def test_help_is_quick_and_loads_no_model_code(argv: list[str]) -> None:
    code = (
        "import sys\nfrom regionlm.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit: pass\n"
        "heavy = {'torch', 'transformers', 'open_clip', 'numpy', 'PIL'} & set(sys.modules)\n"
        "print(sorted(heavy), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, *argv]
    seconds = []
    for _ in range(3):
        before = _children_seconds()
        done = subprocess.run(command, capture_output=True, text=True, cwd=_ROOT)
        seconds.append(_children_seconds() - before)
        assert done.stderr.strip() == "[]"
        assert "regionlm" in done.stdout
    assert min(seconds) < 1


def _children_seconds() -> float:
    """Processor time, which other programs on the machine disturb less than a clock."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


@pytest.mark.parametrize("options", [[], ["--embedder", "crop", "--heatmap", "h.png"]])
def test_bad_input_is_answered_before_torch_is_loaded(options: list[str]) -> None:
    code = (
        "import sys\nfrom regionlm.cli.main import main\n"
        f"print(main(['caption', 'none.png', '--box', '0,0,1,1', *{options}]),"
        " 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=_ROOT)
    assert done.stdout.split() == ["2", "False"]


@pytest.mark.parametrize(
    ("argv", "image", "masks", "words"),
    [
        ("--bad_words a b --mask m.png i.png", "i.png", ["m.png"], ("a", "b")),
        ("--bad_words a b --mask m.png --json i.png", "i.png", ["m.png"], ("a", "b")),
        ("--mask m.png i.png --bad_words a b", "i.png", ["m.png"], ("a", "b")),
        ("--mask m.png n.png -- i.png", "i.png", ["m.png", "n.png"], ()),
        ("i.png --mask m.png n.png", "i.png", ["m.png", "n.png"], ()),
        ("--mask m.png none.png", "none.png", ["m.png"], ()),
        ("--mask m.png", None, ["m.png"], ()),
    ],
)
def test_several_values_before_and_after_the_image(
    argv, image, masks, words, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    for name in ("i.png", "m.png", "n.png"):
        (tmp_path / name).touch()
    query, _, _, decoding, *_ = _parse("caption", *argv.split())
    assert (query.image, query.mask, decoding.bad_words) == (image, masks, words)


@pytest.mark.parametrize(
    ("argv", "name", "value"),
    [
        ("--eos-token-id 3 4", "eos_token_id", [3, 4]),
        ("--eos-token-id 3", "eos_token_id", 3),
        ("--bad-words-ids [3] [4,5]", "bad_words_ids", ([3], [4, 5])),
        ("--bad-words-ids [3] --bad_words_ids [[4,5],[6]]", "bad_words_ids", ([3], [4, 5], [6])),
    ],
)
def test_lists_of_numbers(argv, name, value):
    decoding = _parse("caption", "i.png", *argv.split())[3]
    assert getattr(decoding, name) == value
