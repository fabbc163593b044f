"""The script's own maps and steps are MaskInversion's, and what it says of the cosine holds."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from open_clip import CLIP

from regionlm import ClipViT, RegionEncoder
from regionlm.datasets import open_dataset
from regionlm.embedders.dice import GridDice
from regionlm.embedders.maskinversion import MaskInversion
from training.mini.attention_start import attention_start
from training.mini.clip import mini_clip_config
from training.world.scene_batches import Stage

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def scores(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import attention_pool_scores

    return attention_pool_scores


@pytest.fixture
def encoder():
    """`mini` with an attention head that nobody trained."""
    torch.manual_seed(0)
    mini = RegionEncoder.from_pretrained("mini", device="cpu").backbone
    clip = CLIP(**mini_clip_config("attention")).eval().double()
    clip.load_state_dict(attention_start(mini.model.state_dict(), clip))
    backbone = ClipViT(clip, tokenizer=mini.tokenizer, inversion_defaults={"size": 96})
    return RegionEncoder(backbone, name="untrained")


def test_dot_is_mask_inversions(scores, encoder):
    sample = open_dataset("mini", None, limit=1)[0]
    backbone = encoder.backbone
    inversion = MaskInversion(backbone, lr=0.5, score="dot")
    wanted = inversion(sample.image, sample.masks)
    image = scores.PooledImage(backbone, backbone.preprocess(sample.image, 96)[None])
    dice = GridDice(wanted.resize, torch.as_tensor(sample.masks))
    lets, last, _ = scores.invert(image, scores.Candidate("dot"), dice, len(sample.masks), 0.5)
    torch.testing.assert_close(last, wanted.dice, atol=1e-6, rtol=0)
    assert F.cosine_similarity(lets, wanted.embeddings).min() > 1 - 1e-9


def test_a_cosine_with_the_image_has_no_slope(scores, encoder):
    sample = open_dataset("mini", None, limit=1)[0]
    backbone = encoder.backbone
    image = scores.PooledImage(backbone, backbone.preprocess(sample.image, 96)[None])
    start = F.normalize(image.image[None], dim=1).requires_grad_()
    largest = {
        score: image.maps(scores.Candidate(score), start).max().item()
        for score in ("dot", "cosine")
    }
    assert largest["cosine"] * image.image.norm() < 1e-5 * largest["dot"]
    found = MaskInversion(backbone, lr=0.5, score="cosine")(sample.image, sample.masks)
    torch.testing.assert_close(found.embeddings, found.image_embedding.expand(3, -1))


def test_siglips_head_stands_on_minis_trunk(scores, world):
    import siglip_head

    found = siglip_head.siglip_like(Stage(1, 4, 192, negatives=1), passes=2).backbone
    mini = RegionEncoder.from_pretrained("mini", device="cpu").backbone
    assert found.pooling == "attention"
    pixels = torch.randn(1, 3, 192, 192)
    with torch.no_grad():
        wanted, _ = mini.trunk(pixels, without=0)
        tokens, _ = found.trunk(pixels)
        torch.testing.assert_close(tokens, wanted, atol=1e-4, rtol=1e-4)
        embedded = found.model.visual(pixels)
    torch.testing.assert_close(found.embed_images(pixels), embedded, atol=1e-4, rtol=1e-4)


def test_table_has_all_rows(scores, encoder):
    lines = []
    scores.table(encoder, 1, [0.1], lines.append)
    assert lines[0] == "untrained: 3 masks, 10 steps, 96 px\n"
    assert len(lines) == 4 + len(scores.CANDIDATES)
    assert all(0 < float(line.split("|")[6]) < 1 for line in lines[3:])
