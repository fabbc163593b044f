"""Training that starts from a folder or a hub repository of adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import huggingface_hub.constants
import peft
import pytest
import torch
import yaml
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from prefix_models import PrefixModelError
from prefix_models.lm.adapters import adapter_state, is_adapted, plain_state
from regionlm import RegionCaptioner
from regionlm.cli.main import main
from regionlm.errors import InputError
from tests.prefix_models.lm.adapted import TOKENIZER, adapter_folder, plain, scores, settings
from training.fit_settings import Fit, PairSet, Recipe, Start
from training.pipeline import fit
from training.start import load_start

ROOT = Path(__file__).parents[2]
MANIFEST = ROOT / "training/first_hour/images.jsonl"
BACKBONE = str(ROOT / "regionlm/bundles/mini/backbone")
PROJECTOR = {"tokens_per_region": 2, "prompt": "<region>", "template": "{prompt}"}
CLIPCAP = {"prefix_length": 2, "mapper": "linear"}
CASES: dict[str, dict[str, Any]] = {
    "lora": {},
    "dora": {"use_dora": True},
    "head": {"modules_to_save": ["lm_head"]},
    "pissa": {"init_lora_weights": "pissa"},
}


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield tmp_path


def start(source="adapter", *, kind="projector", **values):
    options = PROJECTOR if kind == "projector" else CLIPCAP
    return Start(kind=kind, backbone=BACKBONE, language_model=source, options=options, **values)


def train(begin, **recipe):
    """Two steps; the prefix model as trained, and as its bundle has it."""
    data = [PairSet("manifest", {"path": str(MANIFEST)}, embedder="cls", limit=4)]
    trainer = {"accelerator": "cpu", "enable_progress_bar": False, "log_every_n_steps": 1}
    recipe = Recipe(**{"steps": 2, "batch_size": 4, "warmup": 0, "lr": 0.01, **recipe})
    trained = fit(Fit(Path("run"), data, begin, recipe, trainer=trainer)).prefix_model
    return trained, RegionCaptioner.from_pretrained("run/bundle", device="cpu").prefix_model


def check_the_same(found, wanted):
    torch.testing.assert_close(scores(found.lm), scores(wanted.lm), atol=1e-5, rtol=0)
    embeddings = torch.randn(2, wanted.config.embedding_dim)
    written = [
        [one.token_ids for one in model.eval().generate(embeddings, max_new_tokens=8)]
        for model in (found, wanted)
    ]
    assert written[0] == written[1]


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("case", ["lora", "dora", "head"])
@pytest.mark.parametrize("kind", ["gpt2", "llama"])
@pytest.mark.filterwarnings("ignore::UserWarning")  # peft, of tied weights
def test_a_mapper_before_adapters(kind, case, stored, folder):
    _, wanted = adapter_folder(folder, kind, **CASES[case])
    trained, found = train(start(store_language_model=stored))
    torch.testing.assert_close(scores(found.lm), wanted, atol=1e-5, rtol=0)
    check_the_same(found, trained)
    assert (found.reference is None) is stored
    assert bool(list(Path("run").rglob("language_model/model.safetensors"))) is stored
    if not stored:
        assert found.reference["source"] == str(folder / "base")


@pytest.mark.parametrize("stored", [True, False])
@pytest.mark.parametrize("case", ["lora", "dora", "head"])
def test_adapters_are_trained_further(case, stored, folder):
    _, before = adapter_folder(folder, "llama", **CASES[case])
    base = AutoModelForCausalLM.from_pretrained("base").state_dict()
    trained, found = train(start(store_language_model=stored), trains="lora")
    check_the_same(found, trained)
    assert (scores(found.lm) - before).abs().max() > 1e-3
    assert all(value.equal(base[name]) for name, value in plain_state(found.lm).items())
    old = load_file(folder / "adapter/adapter_model.safetensors")
    new = adapter_state(found.lm)
    assert old.keys() == new.keys() and not any(old[name].equal(new[name]) for name in old)


def test_all_is_trained_with_the_adapters(folder):
    _, before = adapter_folder(folder, "llama")
    base = AutoModelForCausalLM.from_pretrained("base").state_dict()
    trained, found = train(start(kind="clipcap"), trains="all")
    check_the_same(found, trained)
    assert is_adapted(found.lm) and (scores(found.lm) - before).abs().max() > 1e-3
    assert not any(value.equal(base[name]) for name, value in plain_state(found.lm).items())


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_language_model_whose_weights_its_adapters_change(folder):
    _, wanted = adapter_folder(folder, "llama", **CASES["pissa"])
    with pytest.raises(PrefixModelError, match=r"no longer that of .*/base .*; store it"):
        train(start(store_language_model=False))
    assert not Path("run").exists()
    trained, found = train(start())
    torch.testing.assert_close(scores(found.lm), wanted, atol=1e-5, rtol=0)
    check_the_same(found, trained)


def test_the_tokenizer_beside_the_adapters_or_else_the_language_models(folder):
    path, _ = adapter_folder(folder, "llama")
    assert load_start(start(), Recipe())[1].tokenizer.get_vocab() == TOKENIZER.get_vocab()
    TOKENIZER.save_pretrained(path)
    for name in Path("base").glob("tokenizer*"):
        name.unlink()
    assert load_start(start(), Recipe())[1].tokenizer.get_vocab() == TOKENIZER.get_vocab()


# --- the hub


def upload(cache: Path, name: str, files: Path) -> None:
    """Put files where the hub's client keeps what it has downloaded."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = cache / f"models--{name.replace('/', '--')}"
    shutil.copytree(files, repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs/main").write_text(commit)


@pytest.mark.parametrize("stored", [True, False])
def test_adapters_and_language_model_of_the_hub(stored, folder, monkeypatch):
    path, wanted = adapter_folder(folder, "llama", use_dora=True)
    change(path, base_model_name_or_path="tests/base")
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(folder / "hub"))
    # transformers 5.0 asks for adapters beside a language model of the hub, offline or not.
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    upload(folder / "hub", "tests/base", folder / "base")
    upload(folder / "hub", "tests/adapter", path)
    trained, found = train(start("tests/adapter", store_language_model=stored, offline=True))
    torch.testing.assert_close(scores(found.lm), wanted, atol=1e-5, rtol=0)
    check_the_same(found, trained)
    if not stored:
        assert found.reference["source"] == "tests/base"


# --- refused before anything is embedded or trained


def change(path, **values):
    config = path / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | values))


def both(path):
    shutil.copytree("base", path, dirs_exist_ok=True)


def other_kind(path):
    tuning = peft.PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    base = AutoModelForCausalLM.from_pretrained("base")
    shutil.rmtree(path)
    peft.get_peft_model(base, tuning).save_pretrained(path)


def another_base(path):
    plain("gpt2").save_pretrained("base")


def stacked(path):
    shutil.copytree(path, "second")
    change(path, base_model_name_or_path="second")


def resized(path):
    weights = load_file(path / "adapter_model.safetensors")
    more = {"base_model.model.model.embed_tokens.weight": torch.zeros(99, 16)}
    save_file(weights | more, path / "adapter_model.safetensors", {"format": "pt"})


REFUSED = {
    "both in one folder": (both, "holds a language model and adapters"),
    "no base": (lambda path: change(path, base_model_name_or_path=None), "found None"),
    "base gone": (lambda path: shutil.rmtree("base"), "which no longer exists; correct"),
    "not JSON": (lambda path: (path / "adapter_config.json").write_text("{"), "cannot read"),
    "no weights": (lambda path: (path / "adapter_model.safetensors").unlink(), "missing file"),
    "prompt tuning": (other_kind, "kind LORA on .*adapter, found PROMPT_TUNING"),
    "another base": (another_base, "does not fit adapter_config.json|can't be used on this"),
    "adapters for adapters": (stacked, "without adapters, found some on it|cannot read"),
    "other rank": (lambda path: change(path, r=5), r"has shape \[3, 24\], expected \[5, 24\]"),
    "more words": (resized, r"embed_tokens.weight has shape \[99, 16\], expected \[21, 16\]"),
}


@pytest.mark.parametrize("case", list(REFUSED))
def test_adapters_that_can_not_be_used_are_one_line(case, folder, capsys):
    path, _ = adapter_folder(folder, "llama")
    REFUSED[case][0](path)
    values = {
        "output": "run",
        "data": [{"source": "manifest", "options": {"path": str(MANIFEST)}, "limit": 4}],
        "start": {"backbone": BACKBONE, "language_model": "adapter", "options": CLIPCAP},
        "recipe": {"steps": 1, "batch_size": 4},
    }
    Path("config.yaml").write_text(yaml.safe_dump(values))
    assert main(["train", "fit", "--config", "config.yaml"]) == 2
    lines = capsys.readouterr().err.splitlines()
    (line,) = [line for line in lines if line.startswith("regionlm: error: ")]
    assert line == lines[-1]
    with pytest.raises(PrefixModelError, match=REFUSED[case][1]):
        load_start(start(), Recipe())
    assert not Path("run").exists() and not Path("runs").exists()


def test_options_of_lora_are_for_a_language_model_without(folder):
    adapter_folder(folder, "llama")
    with pytest.raises(InputError, match=r"recipe\.lora: .* has adapters already, .* leave"):
        load_start(start(), Recipe(trains="lora", lora={"rank": 2}))
    assert settings("llama").r == 3
