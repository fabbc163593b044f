"""Embeddings on disk: what they depend on, how they are shared out, and what a bad disk does."""

import json
import os
import pickle
import re
import resource
import subprocess
import sys
from copy import deepcopy
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch import nn

from regionlm import RegionCaptioner
from regionlm.cli.main import main
from regionlm.errors import InputError
from training import embeddings
from training.embeddings import open_pairs, predict
from training.embeddings.shards import Shards, shard_path, write_shard
from training.first_hour.make import FOLDER
from training.fit_settings import PairSet

HERE = {"accelerator": "cpu", "devices": 1}
FAST = {"steps": 1, "size": 64}


@pytest.fixture(scope="module")
def mini():
    return RegionCaptioner.from_pretrained("mini", device="cpu").backbone


@pytest.fixture
def manifest(tmp_path):
    """Six images: whole ones, one of two captions, and regions."""
    lines = [json.loads(line) for line in (FOLDER / "images.jsonl").read_text().splitlines()[:6]]
    lines[1] = {"image": lines[1]["image"], "captions": ["one", "zwei \u2603\U0001f600\u0000 x"]}
    lines[2] = {
        "image": lines[2]["image"],
        "regions": [
            {"box": [0, 0, 90, 90], "caption": "corner"},
            {"box": [9, 9, 99, 99], "captions": ["a", "b"]},
        ],
    }
    for line in lines:
        line["image"] = str(FOLDER / line["image"])
    path = tmp_path / "some.jsonl"
    path.write_text("\n".join(json.dumps(line) for line in lines))
    return path


def opened(path, backbone, store, **changes):
    one = PairSet("manifest", {"path": str(path)}, embedder_options=FAST)
    for name, value in changes.items():
        setattr(one, name, value)
    return open_pairs([one], backbone, store, HERE, progress=False)


def folders(store):
    return sorted(path.name for path in Path(store).iterdir())


def test_texts_share_the_embedding_of_their_region_and_are_as_written(manifest, mini, tmp_path):
    pairs = opened(manifest, mini, tmp_path / "s")
    texts = [pairs[i][1] for i in range(len(pairs))]
    assert len(pairs) == 9 and texts[1:6] == [
        "one",
        "zwei \u2603\U0001f600\u0000 x",
        "corner",
        "a",
        "b",
    ]
    assert pairs[1][0].equal(pairs[2][0]) and pairs[4][0].equal(pairs[5][0])
    assert not pairs[3][0].equal(pairs[4][0]) and pairs[0][0].dtype == torch.float32
    (file,) = (tmp_path / "s").rglob("*.safetensors")
    assert load_file(file)["embeddings"].shape == (7, mini.dim)
    assert json.loads((file.parent / "key.json").read_text())["embedder"]["steps"] == 1


def test_embeddings_are_the_embedders_own_at_the_norm_of_the_image(manifest, mini, tmp_path):
    from PIL import Image

    from regionlm.embedders.maskinversion import MaskInversion

    image = Image.open(json.loads(manifest.read_text().splitlines()[2])["image"]).convert("RGB")
    masks = torch.zeros(2, image.height, image.width, dtype=torch.bool)
    masks[0, :90, :90] = masks[1, 9:99, 9:99] = True
    expected = MaskInversion(mini, **FAST)(image, masks)
    pairs = opened(manifest, mini, tmp_path / "s")
    found = torch.stack([pairs[3][0], pairs[4][0]])
    torch.testing.assert_close(found, expected.rescaled(), rtol=1e-4, atol=1e-5)
    lengths = expected.image_embedding.norm().expand(2)
    torch.testing.assert_close(found.norm(dim=1), lengths, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "options",
    [{"steps": 2}, {"lr": 0.3}, {"alpha": 1.0}, {"weight_decay": 0.1}, {"size": 96},
     {"score": "dot"}, {"relevance": "gradcam"}],
)  # fmt: skip
def test_every_option_of_the_embedder_is_in_the_key(manifest, mini, tmp_path, options):
    for changed in ({}, options):
        opened(manifest, mini, tmp_path / "s", embedder_options={**FAST, **changed}, limit=1)
    assert len(folders(tmp_path / "s")) == 2


def test_backbone_source_and_embedder_are_in_the_key(manifest, mini, tmp_path):
    def made(backbone=mini, **changes):
        opened(manifest, backbone, tmp_path / "s", **{"limit": 1, **changes})
        return len(folders(tmp_path / "s"))

    assert made() == 1 and made() == 1
    assert made(embedder="cls", embedder_options={"size": 64}) == 2
    assert made(limit=2) == 3
    other = deepcopy(mini)
    with torch.no_grad():
        next(other.model.visual.parameters()).add_(1e-3)
    assert made(other) == 4
    other = deepcopy(mini)
    other.mean = (0.1, 0.2, 0.3)
    assert made(other) == 5
    other = deepcopy(mini)
    other.std = (0.1, 0.2, 0.3)
    assert made(other) == 6
    other = deepcopy(mini)
    other.inversion_defaults["lr"] = 0.123
    assert made(other) == 7
    other = deepcopy(mini)  # the same weights, another activation
    for block in other.model.visual.transformer.resblocks:
        block.mlp.gelu = nn.GELU(approximate="tanh")
    assert made(other) == 8
    manifest.write_text(manifest.read_text() + "\n")
    assert made() == 9


def test_another_folder_of_images_is_another_set(manifest, mini, tmp_path):
    copy = tmp_path / "elsewhere" / manifest.name
    copy.parent.mkdir()
    copy.write_bytes(manifest.read_bytes())
    for path in (manifest, copy):
        opened(path, mini, tmp_path / "s", limit=1)
    assert len(folders(tmp_path / "s")) == 2


@pytest.fixture
def small_shards(monkeypatch):
    monkeypatch.setattr(predict, "TOGETHER", 1)
    monkeypatch.setattr(predict, "SHARD", 2)


def test_a_stopped_run_makes_only_what_is_missing(manifest, mini, tmp_path, small_shards):
    before = opened(manifest, mini, tmp_path / "s")
    rows = [before[i] for i in range(len(before))]
    files = sorted((tmp_path / "s").rglob("*.safetensors"))
    assert len(files) == 3
    times = [file.stat().st_mtime_ns for file in files]
    files[1].unlink()
    after = opened(manifest, mini, tmp_path / "s")
    for i, (embedding, text) in enumerate(rows):
        assert after[i][0].equal(embedding) and after[i][1] == text
    assert [files[i].stat().st_mtime_ns == times[i] for i in range(3)] == [True, False, True]


@pytest.mark.long
def test_two_processes_write_the_bytes_of_one(tmp_path, monkeypatch, capsys):
    """300 lines in two shards, by the command."""
    monkeypatch.chdir(tmp_path)
    lines = (FOLDER / "images.jsonl").read_text().splitlines()[:300]
    said = [{**json.loads(line)} for line in lines]
    for one in said:
        one["image"] = str(FOLDER / one["image"])
    (tmp_path / "many.jsonl").write_text("\n".join(json.dumps(one) for one in said))
    settings = {
        "output": "run",
        "data": [{"source": "manifest", "options": {"path": "many.jsonl"}, "embedder": "cls",
                  "embedder_options": {"size": 32}}],
        "start": {"bundle": "mini"},
        "recipe": {"steps": 1},
    }  # fmt: skip
    for devices in (1, 2):
        settings["store"] = f"store{devices}"
        settings["trainer"] = {"accelerator": "cpu", "devices": devices}
        (tmp_path / f"config{devices}.yaml").write_text(yaml.safe_dump(settings))
    command = ["train", "embed", "--config"]
    assert main([*command, "config1.yaml"]) == 0
    assert capsys.readouterr().out == "store1: 300 pairs to train on, 0 to validate\n"
    done = subprocess.run(
        [sys.executable, "-m", "regionlm", *command, "config2.yaml"],
        env={**os.environ, "PYTHONPATH": str(Path(embeddings.__file__).parents[2])},
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    # torch 2.9 prints there, both processes at once, in the middle of each other's lines
    noise = re.compile(r"\[Gloo\]|peer ranks|^[\s\d]*$")
    said = [one for one in done.stdout.splitlines() if not noise.search(one)]
    assert said == ["store2: 300 pairs to train on, 0 to validate"]
    found = [
        {p.relative_to(store): p.read_bytes() for p in store.rglob("*") if p.is_file()}
        for store in (tmp_path / "store1", tmp_path / "store2")
    ]
    assert len(found[0]) == 3 and found[0] == found[1]  # two shards and the key


def test_a_disk_that_takes_no_more_is_one_line_and_leaves_no_part(tmp_path):
    """A limit on the size of files is refused where a full disk is: in write."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        with pytest.raises(InputError, match="cannot be written: File too large") as raised:
            write_shard(tmp_path / "0.safetensors", torch.zeros(99, 99), ["a"] * 99, range(99), [])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


def test_a_damaged_shard_is_one_line(manifest, mini, tmp_path):
    opened(manifest, mini, tmp_path / "s")
    (file,) = (tmp_path / "s").rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"damaged.*delete it"):
        opened(manifest, mini, tmp_path / "s")


def test_shards_go_to_workers_and_close_the_oldest(tmp_path, monkeypatch):
    monkeypatch.setattr("training.embeddings.shards._OPEN", 2)
    for number in range(5):
        path = shard_path(tmp_path, number)
        write_shard(path, torch.full((1, 3), float(number)), [f"text {number}"], [0], [])
    shards = Shards(tmp_path, 5)
    assert [shards[i][1] for i in (4, 0, 3, 1, 2, 4)] == [f"text {i}" for i in (4, 0, 3, 1, 2, 4)]
    assert len(shards._opened) == 2
    assert pickle.loads(pickle.dumps(shards))[3][0].tolist() == [3.0] * 3
    with pytest.raises(IndexError):
        shards[5]


def test_what_was_skipped_is_counted_and_stays_an_error_for_who_did_not_ask(
    manifest, mini, tmp_path
):
    lines = manifest.read_text().splitlines()
    lines[0] = '{"image": "gone.jpg", "caption": "a"}'
    lines.append(json.dumps({**json.loads(lines[4]), "caption": "\ud800"}))
    lines.append("not JSON")
    manifest.write_text("\n".join(lines))
    pairs = opened(manifest, mini, tmp_path / "s", skip_bad=True)
    assert len(pairs) == 8 and pairs.skipped == 3
    assert "some.jsonl, line 1" in pairs.first_skipped and "gone.jpg" in pairs.first_skipped
    manifest.write_text("\n".join(lines[:-1]))
    opened(manifest, mini, tmp_path / "s", skip_bad=True)
    with pytest.raises(InputError, match=r"line 1.*gone"):
        opened(manifest, mini, tmp_path / "s")


def test_what_was_repaired_is_taken_in_and_nothing_else_is_made_again(
    manifest, mini, tmp_path, small_shards
):
    lines = [json.loads(line) for line in manifest.read_text().splitlines()]
    picture, lines[0]["image"], lines[3]["image"] = lines[0]["image"], "soon.jpg", "never.jpg"
    manifest.write_text("\n".join(json.dumps(line) for line in lines))
    before = opened(manifest, mini, tmp_path / "s", skip_bad=True)
    files = sorted((tmp_path / "s").rglob("*.safetensors"))
    made = [file.stat().st_mtime_ns for file in files]
    assert (len(before), before.skipped, len(files)) == (7, 2, 3)
    (tmp_path / "soon.jpg").write_bytes(Path(picture).read_bytes())
    after = opened(manifest, mini, tmp_path / "s", skip_bad=True)
    assert (len(after), after.skipped) == (8, 1) and "never.jpg" in after.first_skipped
    same = [file.stat().st_mtime_ns == one for file, one in zip(files, made, strict=True)]
    assert same == [False, True, True]
    with pytest.raises(InputError, match=r"line 4: image .*never\.jpg"):
        opened(manifest, mini, tmp_path / "s")
    (tmp_path / "never.jpg").write_bytes(Path(picture).read_bytes())
    assert len(opened(manifest, mini, tmp_path / "s")) == 9


def test_texts_say_where_they_are_from(manifest, mini, tmp_path, small_shards):
    (found,) = opened(manifest, mini, tmp_path / "s").sets
    numbers = [found.place(i).removeprefix(f"{manifest}, line ") for i in range(len(found))]
    assert numbers == ["1", "2", "2", "3", "3", "3", "4", "5", "6"]
    assert list(found.texts) == [found[i][1] for i in range(len(found))]


def test_an_example_that_stops_a_run_leaves_nothing_half_done(manifest, mini, tmp_path):
    manifest.write_text('{"image": "gone.jpg", "caption": "a"}')
    with pytest.raises(InputError, match=r"some\.jsonl, line 1: image .*gone\.jpg does not exist"):
        opened(manifest, mini, tmp_path / "s")
    assert not (tmp_path / "s").exists()
