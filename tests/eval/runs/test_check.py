"""Settings that are refused before anything is loaded or written."""

import pytest

from regionlm.cli.main import main
from tests.eval.runs.whole_runs import eval_command


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--data.name", "nothing"], "nothing"),
        (["--embedder.name", "nothing"], "nothing"),
        (["--model.name", "nothing"], "nothing"),
        (["--data.name", "phrasecut"], "data.root"),
        (["--task", "dancing"], "dancing"),
        (["--limit", "0"], "limit"),
        (["--data.workers", "-1"], "data.workers: expected an integer >= 0, found -1"),
        (["--data.options", '{"limit": 3}'], "limit: not an option"),
        (["--embedder.options", '{"nothing": 3}'], "nothing: not an option of the embedder"),
        (["--template", "{x}"], "template: expected words with {} once"),
        (["--template", "no braces"], "template: expected words with {} once"),
        (["--template", "{} and {}"], "template: expected words with {} once"),
        (["--template", "{} {"], "template: expected words with {} once"),
        (["--sweep", '{"embedder.nothing": [1]}'], "embedder.nothing"),
        (["--sweep", '{"output": ["a"]}'], "output is not a setting that can vary"),
        (["--sweep", '{"limit": [2, "x"]}'], "limit: expected int, found 'x'"),
        (["--sweep", '{"clipscore": [true, 3]}'], "clipscore 3"),
        (["--sweep", '{"task": ["classes", "dancing"]}'], "task dancing"),
        (["--sweep", '{"masks": ["exact", "worn"]}'], "masks worn"),
        (["--sweep", '{"embedder.name": ["cls", "nothing"]}'], "nothing"),
        (["--sweep", '{"embedder.options.size": [64], "data.name": ["mini", "x"]}'], "found 'x'"),
        (["--sweep", '{"embedder.options.nothing": [64]}'], "nothing: not an option"),
        (["--sweep", '{"template": ["a {}", "b"]}'], "found 'b'"),
        (["--sweep", '{"judge.nothing": ["mini"]}'], "judge.nothing is not a setting"),
        (["--sweep", '{"judge.name": ["mini", null]}'], "judge.name: expected text, found None"),
        (["--sweep", '{"judge": ["mini", "nothing"]}'], "unknown model 'nothing'"),
        (["--sweep", '{"model": ["mini", "nothing"]}'], "unknown model 'nothing'"),
        (["--sweep", '{"model.pretrained": [null, "openai"]}'], "model.pretrained: captioning tak"),
        (["--sweep", '{"decoding.max_new_tokens": [2, 0]}'], "max_new_tokens: expected an integer"),
        (["--sweep", '{"data.split": ["test", "nothing"]}'], "split: expected one of"),
        (["--sweep", '{"limit": []}'], "expected a list of values for limit"),
        (["--sweep", '{"limit": [1, 2, 1]}'], "limit has the value 1 twice"),
    ],
)
def test_bad_settings_are_one_line(options, message, tmp_path, capsys):
    assert main([*eval_command(tmp_path / "run")[3:], *options]) == 2
    said = capsys.readouterr().err
    assert message in said and said.count("\n") == 1
    assert not (tmp_path / "run").exists()
