"""The attention head under SigLIP's loss, and how it starts from a model that pools the mean."""

import json
from dataclasses import replace

import lightning as L
import pytest
import torch
import torch.nn.functional as F
from open_clip.loss import SigLipLoss

from regionlm.pretrained.bundle import MINI
from training.mini.attention_start import attention_start
from training.mini.clip import CaptionData, ContrastiveClipModule, mini_clip_config, normalise
from training.mini.losses import sigmoid_loss, softmax_loss
from training.world.scene_batches import Stage

STAGES = [Stage(2, 4, 64, patch_dropout=0.5), Stage(2, 4, 192, negatives=1)]
START = MINI / "backbone"


def _unit(count, seed):
    torch.manual_seed(seed)
    return F.normalize(torch.randn(count, 8, dtype=torch.float64), dim=1)


def test_sigmoid_loss_is_open_clips_where_all_captions_differ():
    images, texts, scale, bias = _unit(5, 0), _unit(5, 1), 20.0, -4.0
    wanted = SigLipLoss()(images, texts, scale, torch.tensor(bias))
    found = sigmoid_loss(scale * images @ texts.T + bias, torch.eye(5, dtype=torch.bool))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("loss", [sigmoid_loss, softmax_loss])
def test_equal_captions_are_positive_and_false_ones_negative(loss):
    same = torch.eye(3, dtype=torch.bool)
    same[0, 1] = same[1, 0] = True
    logits = torch.zeros(3, 5, requires_grad=True)
    (gradient,) = torch.autograd.grad(loss(logits, same), logits)
    assert torch.equal(gradient[:, :3] < 0, same) and (gradient[:, 3:] > 0).all()


def test_the_start_embeds_as_before_while_attention_is_even():
    mean = ContrastiveClipModule(STAGES, start=START).clip.eval()
    clip = ContrastiveClipModule(STAGES, head="attention").clip.eval()
    before = {name: value.clone() for name, value in clip.state_dict().items()}
    state = attention_start(mean.state_dict(), clip)
    for name, value in clip.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert torch.equal(state["visual.attn_pool.query"], before["visual.attn_pool.query"])
    state["visual.attn_pool.attn.q_proj_weight"] = torch.zeros(128, 128)
    clip.load_state_dict(state)
    pixels = normalise(torch.randint(0, 256, (2, 3, 192, 192), dtype=torch.uint8))
    texts = torch.randint(1, 100, (2, 40))
    with torch.no_grad():
        tokens = []
        hook = mean.visual.transformer.register_forward_hook(lambda *call: tokens.append(call[2]))
        mean.encode_image(pixels)
        hook.remove()
        values = mean.visual.ln_post(tokens[0]) @ mean.visual.proj
        wanted = F.layer_norm(values.mean(1), (128,))
        torch.testing.assert_close(clip.encode_image(pixels), wanted, atol=1e-4, rtol=1e-4)
        assert torch.equal(clip.encode_text(texts), mean.encode_text(texts))


def test_training_starts_from_minis_weights_and_moves_all_parts_of_the_pooler(world, tmp_path):
    L.seed_everything(0)
    stages = [replace(stage, steps=1) for stage in STAGES]
    module = ContrastiveClipModule(stages, warmup=1, start=START, head="attention")
    before = {name: value.detach().clone() for name, value in module.clip.named_parameters()}
    trainer = L.Trainer(
        accelerator="cpu", max_steps=2, default_root_dir=tmp_path, logger=False,
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(module, CaptionData(stages))
    assert float(trainer.callback_metrics["top1"]) > 0.5  # at random, one of four
    still = {n for n, p in module.clip.named_parameters() if torch.equal(p, before[n])}
    assert not {name for name in still if "attn_pool" in name or "logit" in name}


def test_both_heads_differ_in_nothing_else():
    mean, attention = mini_clip_config(), mini_clip_config("attention")
    assert attention.pop("init_logit_bias") < 0
    for config in (mean, attention):
        pools = ("pool_type", "final_ln_after_pool", "attentional_pool")
        for name in [n for n in config["vision_cfg"] if n in pools or n.startswith("attn_pooler")]:
            del config["vision_cfg"][name]
    assert json.dumps(mean) == json.dumps(attention)
