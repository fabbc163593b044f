"""The keys under which embeddings are stored: those of releases that declared options otherwise."""

import json
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch

from regionlm import RegionCaptioner
from regionlm.embedders import EMBEDDERS, make_embedder
from regionlm.embedders.options import EMBEDDER_OPTIONS
from regionlm.pretrained.file_digests import file_digest
from training.embeddings.key import embedder_key

INVERSION = {
    "alpha": 0.0, "lr": 0.5, "relevance": "legrad", "score": None, "steps": 10, "weight_decay": 0.0,
}  # fmt: skip
CHOSEN = {
    "alpha": 0.5, "lr": 1.0, "relevance": "chefer", "score": "cosine", "steps": 3,
    "weight_decay": 0.1,
}  # fmt: skip

NEWER = {"layers", "resize", "speed", "empty_text"}  # in keys only if not at their default

# Name, options, and what was stored for them; the input is 192 x 192 unless size says otherwise.
STORED = [
    ("maskinversion", {}, INVERSION),
    ("maskinversion", {**CHOSEN, "lr": 1, "alpha": np.float32(0.5), "size": 64}, CHOSEN),
    ("maskinversion", {"steps": None, "lr": None, "size": [64, 32]}, INVERSION),
    ("maskinversion", {"layers": 1}, INVERSION),
    ("maskinversion", {"layers": 3}, {**INVERSION, "layers": 3}),
    ("maskinversion", {"speed": "exact"}, INVERSION),
    ("maskinversion", {"speed": "fast"}, {**INVERSION, "speed": "fast"}),
    ("cls", {}, {}),
    ("cls", {"size": 64}, {}),
    ("cls", {"resize": "squash"}, {}),
    ("cls", {"resize": "pad"}, {"resize": "pad"}),
    ("maskinversion", {"resize": "native"}, {**INVERSION, "resize": "native"}),
    ("crop", {}, {}),
    ("masked_crop", {}, {"extent": "image"}),
    ("masked_crop", {"extent": "box"}, {"extent": "box"}),
    ("red_circle", {}, {"thickness": 0.01}),
    ("red_circle", {"thickness": 1}, {"thickness": 1.0}),
    ("fgvp", {}, {"blur": 100.0}),
    ("fgvp", {"blur": 3}, {"blur": 3.0}),
    ("ris", {}, {"masked_blocks": 3, "v": 0.95}),
    ("ris", {"v": 1, "masked_blocks": 99}, {"masked_blocks": 5, "v": 1.0}),
    ("maskclip", {}, {"value_only": False}),
    ("maskclip", {"value_only": True}, {"value_only": True}),
    ("clip_surgery", {}, {"blocks": 5}),
    ("clip_surgery", {"blocks": np.int64(2)}, {"blocks": 2}),
    ("sclip", {}, {}),
    ("alphaclip", {}, {"quick_gelu": True}),
    ("alphaclip", {"quick_gelu": False, "size": 64}, {"quick_gelu": False}),
]


@pytest.fixture(scope="module")
def mini():
    return RegionCaptioner.from_pretrained("mini", device="cpu").backbone


@pytest.fixture(scope="module")
def checkpoint(mini, tmp_path_factory):
    tower = mini.model.visual.state_dict()
    state = {name.replace(".attn.in_proj_", ".attn.in_proj."): w for name, w in tower.items()}
    width, _, *patch = tower["conv1.weight"].shape
    state["conv1_alpha.weight"] = torch.zeros(width, 1, *patch)
    path = tmp_path_factory.mktemp("alphaclip") / "tower.pth"
    torch.save(state, path)
    return path


@pytest.mark.parametrize(("name", "options", "stored"), STORED)
@pytest.mark.parametrize("kind", [str, Path])
def test_keys_are_those_of_what_is_stored(mini, checkpoint, name, options, stored, kind):
    if name == "alphaclip":
        options = {**options, "checkpoint": kind(checkpoint)}
        stored = {**stored, "checkpoint": {"file": file_digest(checkpoint)}}
    found = embedder_key(name, make_embedder(name, mini, **options))
    size = options.get("size", 192)
    size = size if isinstance(size, list) else [size, size]
    wanted = {"name": name, "rescaled": True, "size": size, **stored}
    # As it is written: 1 and 1.0 are different files, and so are 5 and numpy's 5.
    assert json.dumps(found, sort_keys=True) == json.dumps(wanted, sort_keys=True)


def test_every_embedder_and_option_is_compared():
    assert {name for name, _, _ in STORED} == set(EMBEDDERS)
    for name, _, stored in STORED:
        options = {field.name for field in fields(EMBEDDER_OPTIONS[name])} - {"size", "checkpoint"}
        assert options - NEWER <= set(stored) <= options
