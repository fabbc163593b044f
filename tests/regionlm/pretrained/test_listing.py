"""The list of models: what ships, what is on this machine and where, and all that has a name."""

import json
import shutil
from pathlib import Path

import open_clip
import pytest
import torch
from huggingface_hub import constants
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, GPT2Config

from regionlm import RegionCaptioner, load_backbone
from regionlm.backbones import ClipViT, published_weights
from regionlm.backbones.hf_siglip import SiglipAsClip
from regionlm.backbones.open_clip_insides import build_model, empty_model, outline
from regionlm.backbones.published_weights import cached_weights, find_weights
from regionlm.cli.main import main
from regionlm.errors import TAKE_ANOTHER, InputError, ModelError
from regionlm.pretrained import listing
from regionlm.pretrained.bundle import MINI
from regionlm.pretrained.facts import open_clip_facts, stored_parameters
from regionlm.pretrained.listed_model import ModelFacts
from regionlm.pretrained.listing import list_models
from regionlm.pretrained.presets import PRESETS
from tests.regionlm.backbones.tiny_open_clip import CONFIG
from tests.regionlm.tiny_siglip import tiny_siglip

COMMIT = "1" * 40
TINY = ModelFacts(16, (8, 8), (32, 32), "mean")


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """Caches and folder of models in a folder of the test's; none of them exists yet."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(published_weights, "URL_CACHE", tmp_path / "urls")
    monkeypatch.setenv("REGIONLM_MODELS", str(tmp_path / "models"))
    return tmp_path


@pytest.fixture
def cached(places):
    """Makes the snapshot of a repository in the hub's cache; returns its folder."""

    def make(hub_id, commit=COMMIT, ref="main"):
        repository = places / "hub" / f"models--{hub_id.replace('/', '--')}"
        (repository / "blobs").mkdir(parents=True, exist_ok=True)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs" / ref).write_text(commit)
        (repository / "snapshots" / commit).mkdir(parents=True)
        return repository / "snapshots" / commit

    return make


def tiny_backbone():
    torch.manual_seed(0)
    return ClipViT(build_model(CONFIG, "tiny"), tokenizer=lambda texts: None, config=CONFIG)


def write_open_clip(folder):
    """A folder as open_clip has it: config and weights."""
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_cfg": CONFIG, "preprocess_cfg": {}}
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    torch.save(tiny_backbone().model.state_dict(), folder / "open_clip_pytorch_model.bin")
    return folder


def named(models):
    return {one.name: one for one in models}


def test_nothing_here_but_what_ships():
    found = list_models()
    assert [one.name for one in found][-2:] == list(PRESETS)
    mini = found[0]
    assert (mini.name, mini.kind, mini.problem) == ("mini", "bundle", None)
    assert mini.files.is_dir()
    captioner = RegionCaptioner.from_pretrained("mini")
    backbone = captioner.backbone
    parts = (backbone.model, captioner.prefix_model)
    assert mini.facts.parameters == sum(len(p.flatten()) for m in parts for p in m.parameters())
    seen = (mini.facts.dim, mini.facts.patch, mini.facts.size, mini.facts.pooling)
    assert seen == (
        backbone.dim, backbone.patch_size, backbone.default_size, backbone.pooling,
    )  # fmt: skip
    for preset in found[-2:]:
        assert (preset.kind, preset.files, preset.problem) == ("preset", None, None)
        assert (preset.facts.dim, preset.facts.patch, preset.facts.parameters) == (
            512, (32, 32), None,
        )  # fmt: skip


def test_the_hubs_cache(cached, tiny_bundle, places):
    """Bundles, CLIPs and LLaVAs under their ids; other models are none of ours."""
    shutil.copytree(tiny_bundle, cached("me/bundle"), dirs_exist_ok=True)
    write_open_clip(cached("me/clip"))
    sizes = {"vision_config": {"image_size": 48, "patch_size": 16, "num_hidden_layers": 1}}
    CLIPModel(CLIPConfig(**sizes, projection_dim=24)).save_pretrained(cached("them/clip"))
    llava = {"model_type": "llava", "vision_config": {"model_type": "clip_vision_model"}}
    folder = cached("llava-hf/some")
    (folder / "config.json").write_text(json.dumps(llava))
    save_file({}, folder / "model-1-of-2.safetensors")
    GPT2Config().save_pretrained(cached("gpt2"))
    cached("empty/one")
    (places / "hub" / "datasets--a--b").mkdir()
    found = named(list_models())
    assert set(found) == {
        "mini", *PRESETS, "me/bundle", "me/clip", "them/clip", "llava-hf/some",
    } | {n for n in found if found[n].kind != "preset" and "mini" in n}  # fmt: skip
    assert {name: found[name].kind for name in found if "/" in name} == {
        "me/bundle": "bundle",
        "me/clip": "CLIP",
        "them/clip": "CLIP",
        "llava-hf/some": "LLaVA",
    }
    assert all(found[name].problem is None for name in found)
    clip, theirs = found["me/clip"].facts, found["them/clip"].facts
    assert (clip.dim, clip.patch, clip.size, clip.pooling) == (16, (8, 8), (32, 32), "mean")
    assert (theirs.dim, theirs.patch, theirs.size) == (24, (16, 16), (48, 48))
    model = CLIPModel.from_pretrained(found["them/clip"].files)
    assert theirs.parameters == sum(one.numel() for one in model.parameters())
    assert found["llava-hf/some"].facts.dim is None
    loaded = RegionCaptioner.from_pretrained(
        "me/bundle", offline=True, device="cpu", cache_dir=constants.HF_HUB_CACHE
    )
    assert loaded.backbone.dim == found["me/bundle"].facts.dim


def test_caches_that_are_files(places):
    for name in ("hub", "urls", "models"):
        (places / name).touch()
    assert [one.name for one in list_models("clipcap")] == list(PRESETS)


def test_what_is_damaged_or_incomplete_says_so(cached, tiny_bundle):
    bundle = cached("me/bundle")
    shutil.copytree(tiny_bundle, bundle, dirs_exist_ok=True)
    (bundle / "backbone" / "open_clip_config.json").write_text("{}")
    (write_open_clip(cached("me/clip")) / "open_clip_pytorch_model.bin").unlink()
    CLIPConfig().save_pretrained(cached("them/clip"))
    (cached("no/json") / "config.json").write_text("{")
    found = named(list_models("me/", "them/", "no/"))
    assert {name: one.problem for name, one in found.items()} == {
        "me/bundle": found["me/bundle"].problem,
        "me/clip": "its weights are not here",
        "them/clip": "its weights are not here",
    }
    assert "expected JSON with model_cfg" in found["me/bundle"].problem


@pytest.mark.parametrize("naflex", [False, True])
def test_a_siglip_of_transformers(cached, naflex):
    model = tiny_siglip(naflex)
    model.save_pretrained(cached("google/siglip"))
    (found,) = (one for one in list_models("google/") if one.kind == "CLIP")
    backbone = ClipViT(SiglipAsClip(model))
    count = sum(one.numel() for one in model.parameters())
    assert found.problem is None
    assert found.facts == ModelFacts(
        backbone.dim, backbone.patch_size, backbone.default_size, "attention", count
    )


def test_of_several_revisions_the_main_one(cached):
    write_open_clip(cached("me/clip", "2" * 40, ref="other"))
    write_open_clip(cached("me/clip", COMMIT))
    assert list_models("me/clip")[0].files.name == COMMIT


def test_weights_of_open_clips_tags(cached, places):
    """By the name that loads them, wherever open_clip keeps them; not once more by a hub id."""
    hub = cached("laion/CLIP-ViT-B-32-laion2B-s34B-b79K")
    (hub / "open_clip_pytorch_model.bin").touch()
    write_open_clip(hub)
    (places / "urls").mkdir()
    (places / "urls" / "ViT-B-32.pt").touch()
    found = named(one for one in list_models() if one.kind == "CLIP" and "/" in one.name)
    assert set(found) == {
        "ViT-B-32/laion2b_s34b_b79k", "ViT-B-32/openai", "ViT-B-32-quickgelu/openai",
    }  # fmt: skip
    for name, one in found.items():
        config = open_clip.get_pretrained_cfg(*name.split("/"))
        assert one.files == cached_weights(config) and one.files.is_file()
        assert (one.facts.dim, one.facts.parameters) == (512, 151_277_313)
    offline = open_clip.get_pretrained_cfg("ViT-B-32-quickgelu", "openai")
    assert find_weights("", {**offline, "hf_hub": ""}, True) == places / "urls" / "ViT-B-32.pt"


def test_the_folder_of_models(places):
    models = places / "models"
    for name in ("one", "ViT-B-32", "ViT-S-16", "ViT-M-16", "clipcap-coco", "notes"):
        (models / name).mkdir(parents=True)
    write_open_clip(models / "one")
    (models / "ViT-S-16" / "epoch_9.pt").write_bytes(b"weights")
    (models / "ViT-M-16" / "a.pt").touch()
    (models / "ViT-M-16" / "b.pt").touch()
    write_open_clip(models / "ViT-B-32")
    for file in ("coco_weights.pt", "vocab.json", "merges.txt", "ViT-B-32.pt"):
        (models / "clipcap-coco" / file).touch()
    found = named(list_models())
    assert found["clipcap-coco"].files == models / "clipcap-coco" / "coco_weights.pt"
    assert found["clipcap-conceptual"].files is None
    assert found[str(models / "one")].facts.dim == 16
    assert found["ViT-B-32"].facts.dim == 16  # its own config, as it is loaded
    assert found["ViT-S-16"].facts.dim == 384 and found["ViT-S-16"].problem is None
    assert found["ViT-M-16"].problem == "expected one file of weights, found 2"
    assert not any("notes" in name for name in found)


def test_names_of_everything(monkeypatch):
    """Each tag of each model of open_clip's, and each model without tags, once."""
    monkeypatch.setattr(listing, "open_clip_facts", lambda config, name: TINY)
    found = list_models(everything=True)
    names = [one.name for one in found]
    assert len(set(names)) == len(names)
    tags = {f"{name}/{tag}" for name, tag in open_clip.list_pretrained()}
    assert tags <= set(names)
    assert {name.split("/")[0] for name in names} >= set(open_clip.list_models())
    for one in found:
        if one.kind == "CLIP" and "/" not in one.name and one.files is None:
            assert "no published weights; put a file of some into" in one.problem
    assert "ViT-B-16" not in names and "ViT-B-16/openai" in names


def test_patterns(monkeypatch):
    monkeypatch.setattr(listing, "open_clip_facts", lambda config, name: TINY)
    names = [one.name for one in list_models("siglip2", "VIT-b-16-quick*/OPENAI")]
    assert "ViT-B-16-quickgelu/openai" in names and "ViT-SO400M-14-SigLIP2/webli" in names
    assert all("SigLIP2" in name or name.startswith("ViT-B-16-quick") for name in names)
    assert list_models("no such model") == []
    assert next(one.name for one in list_models("mini")) == "mini"


@pytest.mark.parametrize("name", ["RN50", "convnext_tiny", "ViT-S-16", "roberta-ViT-B-32"])
def test_what_is_said_of_a_config_is_so(name):
    config = open_clip.get_model_config(name)
    (found, *_) = list_models(f"{name}*")
    if name in ("RN50", "convnext_tiny"):
        with pytest.raises(ModelError) as caught:
            load_backbone(name, pretrained="x")
        assert f"{name}: {found.problem}{TAKE_ANOTHER}" == str(caught.value)
        assert found.facts == ModelFacts()
        return
    backbone = ClipViT(empty_model(config, name), name=name)
    facts = found.facts
    assert (facts.dim, facts.patch, facts.size) == (
        config["embed_dim"], backbone.patch_size, backbone.default_size,
    )  # fmt: skip
    count = (
        sum(p.numel() for p in open_clip.create_model(name).parameters()) if "S" in name else None
    )
    assert facts.parameters == count


def test_without_memory_nothing_but_the_numbers_is_missing():
    """Of a model of its own and of a text tower; no random number is drawn."""
    before = torch.get_rng_state()
    model, count = outline(CONFIG, "tiny")
    assert torch.get_rng_state().equal(before)
    whole = build_model(CONFIG, "tiny")
    assert count == sum(one.numel() for one in whole.parameters())
    shapes = [
        [(n, p.shape, p.requires_grad) for n, p in m.named_parameters()] for m in (model, whole)
    ]
    assert shapes[0] == shapes[1] and all(p.is_meta for p in model.parameters())
    assert open_clip_facts(CONFIG, "tiny") == ModelFacts(16, (8, 8), (32, 32), "mean", count)


def test_weights_are_counted_by_their_headers(tmp_path):
    file, state = tmp_path / "model.safetensors", tiny_backbone().model.state_dict()
    save_file(state, file, metadata={"format": "pt"})
    assert stored_parameters([file]) == sum(one.numel() for one in state.values())
    damaged = tmp_path / "x.safetensors"
    damaged.write_bytes(file.read_bytes()[:50])
    assert stored_parameters([file, damaged]) is stored_parameters([tmp_path / "gone"]) is None
    assert stored_parameters([]) is None


@pytest.mark.parametrize("damage", ["truncated", "empty", "longer"])
def test_a_damaged_file_of_weights_is_named(damage, cached, places):
    bundle = shutil.copytree(MINI, places / "models" / "mine")
    clip = write_open_clip(cached("me/clip"))
    (clip / "open_clip_pytorch_model.bin").unlink()
    save_file(tiny_backbone().model.state_dict(), clip / "model.safetensors")
    assert [one.problem for one in list_models("mine", "me/")] == [None, None]
    for file in (bundle / "backbone/open_clip_model.safetensors", clip / "model.safetensors"):
        whole = file.read_bytes()
        damaged = {"truncated": whole[:-9], "empty": b"", "longer": whole + b"0"}[damage]
        file.write_bytes(damaged)
    for one in list_models("mine", "me/"):
        assert one.problem.endswith("model.safetensors is damaged; copy or download it again")


def test_no_weights_are_loaded_and_nothing_is_asked_of_the_network(cached, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("not needed")

    write_open_clip(cached("me/clip"))
    monkeypatch.setattr("socket.socket.connect", refuse)
    monkeypatch.setattr(torch, "load", refuse)
    monkeypatch.setattr("safetensors.torch.load_file", refuse)
    assert named(list_models("mini", "me/", "ViT-S-32"))["me/clip"].facts.dim == 16


def said(capsys, *argv):
    code = main(["models", *argv])
    out, err = capsys.readouterr()
    return code, out or err


def test_the_table(capsys, cached):
    folder = write_open_clip(cached("me/clip"))
    code, table = said(capsys)
    lines = table.splitlines()
    assert code == 0 and "\033" not in table
    assert lines[0].split() == [
        "name", "kind", "dim", "patch", "input", "pooling", "parameters", "files",
    ]  # fmt: skip
    (row,) = (line for line in lines if line.startswith("me/clip"))
    count = f"{sum(p.numel() for p in tiny_backbone().model.parameters()) / 1e6:.1f}"
    assert row.split() == ["me/clip", "CLIP", "16", "8", "32", "mean", count, "M", str(folder)]
    assert [line for line in lines if line.startswith("clipcap-coco") and "not on this" in line]
    starts = {line.index(word) for line, word in ((lines[0], "files"), (row, str(folder)))}
    assert len(starts) == 1
    code, table = said(capsys, "convnext_tiny", "RN50")
    assert "can't be used: expected a plain CLIP ViT, found a ResNet\n" in table


def test_json(capsys):
    code, text = said(capsys, "mini", "--json")
    assert code == 0
    found = json.loads(text)["models"]
    assert found == [one.to_dict() for one in list_models("mini")]
    assert found[0]["patch"] == [16, 16] and Path(found[0]["files"]).is_dir()
    assert set(found[0]) == {
        "name", "kind", "dim", "patch", "size", "pooling", "parameters", "files", "problem",
    }  # fmt: skip


def test_a_name_that_fits_nothing(capsys):
    code, text = said(capsys, "nonesuch")
    assert code == 2 and text.count("\n") == 1
    assert "no model's name has 'nonesuch' in it; regionlm models --all lists all" in text


def test_every_name_has_to_fit_one(capsys):
    code, text = said(capsys, "mini", "nonesuch", "mini-siglip", "none*such")
    assert code == 2 and text.count("\n") == 1
    assert "no model's name has 'nonesuch' or 'none*such' in it" in text


@pytest.mark.parametrize("pattern", [["mini"], 3, None])
def test_a_pattern_is_text(pattern):
    with pytest.raises(InputError, match=r"patterns: expected text, found .*; give each by itself"):
        list_models("mini", pattern)
