"""Captions that a language model cannot be trained on: named by file and line, or left out."""

import json
import pickle
from pathlib import Path

import pytest
import torch
import yaml
from tokenizers import normalizers

from prefix_models import PrefixModelError
from regionlm.cli.main import main

from .tiny import DIM, tiny_clipcap, tiny_lm

ROOT = Path(__file__).parents[2]
BACKBONE = ROOT / "regionlm/bundles/mini/backbone"
IMAGE = str(ROOT / "training/first_hour/images/0.jpg")
GOOD, LONG, NOTHING = "a red car.", " ".join(["a red car"] * 20), "***"
ROOM = 48 - 3 - 1  # positions, prefix, end token
SETTINGS = {
    "output": "run",
    "start": {
        "backbone": str(BACKBONE),
        "language_model": "lm",
        "options": {"prefix_length": 3, "mapper_width": 8},
    },
    "recipe": {"steps": 1, "batch_size": 2},
    "trainer": {"accelerator": "cpu", "enable_progress_bar": False},
}


@pytest.fixture(autouse=True)
def language_model(tmp_path, monkeypatch):
    """A tiny one whose tokenizer does not see asterisks."""
    monkeypatch.chdir(tmp_path)
    lm, tokenizer = tiny_lm()
    tokenizer.backend_tokenizer.normalizer = normalizers.Replace("*", "")
    lm.save_pretrained("lm")
    tokenizer.save_pretrained("lm")


def train(captions, command="fit", skip_bad=False, **changes):
    """Train on one image with these captions, a line each."""
    lines = [json.dumps({"image": IMAGE, "caption": caption}) for caption in captions]
    Path("some.jsonl").write_text("\n".join(lines))
    data = {"source": "manifest", "options": {"path": "some.jsonl"}, "embedder": "cls",
            "embedder_options": {"size": 32}, "skip_bad": skip_bad}  # fmt: skip
    return run(command, **{"data": [data], **changes})


def run(command="fit", **changes):
    Path("config.yaml").write_text(yaml.safe_dump({**SETTINGS, **changes}))
    return main(["train", command, "--config", "config.yaml"])


SAID = {
    LONG: f"some.jsonl, line 3: caption: expected at most {ROOM} tokens, the language model's limit"
    "; found 60 in 'a red car",
    NOTHING: "some.jsonl, line 3: caption: expected words that the tokenizer knows, found none in"
    " '***'",
}


@pytest.mark.parametrize("bad", SAID)
def test_a_caption_that_cannot_be_used_stops_the_run_before_it_is_embedded(bad, capsys):
    capsys.readouterr()  # progress of writing the language model
    assert train([GOOD, GOOD, bad]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert SAID[bad] in line
    assert not Path("run").exists() and not Path("runs/embeddings").exists()


@pytest.mark.parametrize("bad", SAID)
def test_where_bad_data_is_skipped_it_is_left_out_and_counted(bad, capsys):
    captions = [GOOD, "an owl", bad, "corn"]
    assert train(captions, skip_bad=True) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert last.startswith(f"data: left out 1 that can't be used: {SAID[bad]}")
    assert json.loads(Path("run/run.json").read_text())["pairs"] == [3, 0]
    # The embeddings are there now, and the text still does not do for who did not ask.
    assert train(captions) == 2
    assert SAID[bad] in capsys.readouterr().err


def test_validation_texts_are_looked_at_too(capsys):
    data = {"source": "manifest", "options": {"path": "other.jsonl"}, "embedder": "cls"}
    Path("other.jsonl").write_text(json.dumps({"image": IMAGE, "caption": LONG}))
    assert train([GOOD, GOOD], validation=[data]) == 2
    assert "other.jsonl, line 1: caption: expected at most" in capsys.readouterr().err


def clipcap(captions):
    """The same of CLIPCap's embedding file, by its recipe."""
    said = [{"caption": one, "clip_embedding": 0} for one in captions]
    width = json.loads((BACKBONE / "open_clip_config.json").read_text())["model_cfg"]["embed_dim"]
    Path("c.pkl").write_bytes(
        pickle.dumps({"clip_embedding": torch.ones(1, width), "captions": said})
    )
    options = {**SETTINGS["start"]["options"], "stop": "period"}
    return {
        "data": [{"source": "clipcap", "options": {"path": "c.pkl"}}],
        "start": {**SETTINGS["start"], "options": options},
        "recipe": {**SETTINGS["recipe"], "clipcap_original": True},
    }


def test_what_the_published_recipe_cuts_is_not_too_long(capsys):
    few_long = ["corn"] * 500 + [LONG]  # cut at 10 deviations above the mean: 27 tokens
    assert run(**clipcap(few_long)) == 0
    assert run(**{**clipcap(few_long), "output": "ours", "recipe": SETTINGS["recipe"]}) == 2
    assert "c.pkl, caption 500: caption: expected at most 45" in capsys.readouterr().err
    assert run(**{**clipcap([GOOD, LONG, LONG]), "output": "long"}) == 2  # cut at 60
    assert "c.pkl, caption 1: caption: expected at most 45" in capsys.readouterr().err


def test_a_prefix_model_itself_refuses_a_text_without_tokens():
    model = tiny_clipcap()
    for text in ("", " "):
        with pytest.raises(PrefixModelError, match="1 to 44 tokens, found 0"):
            model.loss(torch.ones(2, DIM), ["a car", text])
