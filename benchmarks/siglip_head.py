"""`mini` with SigLIP's own head, timm's attention pool with an MLP, trained on its frozen trunk.

No open_clip config describes it, so it is made anew each time, in two minutes of a CPU core. Scenes
are composed, for which pictograms are fetched from the npm registry once.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from regionlm import ClipViT, RegionEncoder
from training.mini.clip import normalise
from training.mini.losses import sigmoid_loss
from training.world.scene_batches import CaptionBatches, Stage

SEED = 5  # no other training uses it
STAGE = Stage(steps=16, batch=128, size=192, negatives=1)
PASSES = 10


class Tower(nn.Module):
    """A trunk of timm's and a projection, laid out as in open_clip's `TimmModel`."""

    def __init__(self, trunk: VisionTransformer, dim: int) -> None:
        super().__init__()
        self.trunk = trunk
        self.head = nn.Sequential()
        self.head.add_module("proj", nn.Linear(trunk.embed_dim, dim))
        self.image_size = trunk.patch_embed.img_size

    def forward(self, pixels: Tensor) -> Tensor:
        """Embeddings `[B, d]` of `[B, 3, H, W]`."""
        return self.head(self.trunk(pixels))


def siglip_like(stage: Stage = STAGE, passes: int = PASSES) -> RegionEncoder:
    """Train the head; the trunk, its last norm and the text tower stay as they are."""
    torch.manual_seed(SEED)
    mini = RegionEncoder.from_pretrained("mini", device="cpu", offline=True).backbone
    model = copy.deepcopy(mini.model)
    model.visual = Tower(_trunk(mini.model.visual), mini.dim)
    model.logit_bias = nn.Parameter(torch.tensor(-40.0))
    model.requires_grad_(False)
    _train(model, _features(model, stage), passes)
    backbone = ClipViT(model.eval(), tokenizer=mini.tokenizer, mean=mini.mean, std=mini.std)
    backbone.inversion_defaults = mini.inversion_defaults
    return RegionEncoder(backbone, name="SigLIP's head on mini's trunk")


def _trunk(visual: nn.Module) -> VisionTransformer:
    """timm's ViT with an open_clip trunk's weights, and a pool without any."""
    old = visual.state_dict()
    depth = len(visual.transformer.resblocks)
    trunk = VisionTransformer(
        img_size=visual.image_size, patch_size=visual.patch_size, embed_dim=old["proj"].shape[0],
        depth=depth, num_heads=visual.transformer.resblocks[0].attn.num_heads, pre_norm=True,
        global_pool="map", pool_include_prefix=True, num_classes=0, norm_layer=nn.LayerNorm,
    )  # fmt: skip
    new = trunk.state_dict()
    new["cls_token"] = old["class_embedding"][None, None]
    new["pos_embed"] = old["positional_embedding"][None]
    new["patch_embed.proj.weight"] = old["conv1.weight"]
    pairs = {"ln_pre.": "norm_pre.", "ln_post.": "norm."}
    for i in range(depth):
        parts = (
            ("ln_1.", "norm1."), ("ln_2.", "norm2."), ("attn.in_proj_", "attn.qkv."),
            ("attn.out_proj.", "attn.proj."), ("mlp.c_fc.", "mlp.fc1."),
            ("mlp.c_proj.", "mlp.fc2."),
        )  # fmt: skip
        pairs |= {f"transformer.resblocks.{i}.{a}": f"blocks.{i}.{b}" for a, b in parts}
    for theirs, timms in pairs.items():
        for part in ("weight", "bias"):
            new[timms + part] = old[theirs + part]
    trunk.load_state_dict(new)
    return trunk


def _features(model: nn.Module, stage: Stage) -> list[tuple[Tensor, Tensor, Tensor]]:
    """Tokens `[B, N, D]` (half), text vectors `[2 B, d]` and equal captions of each batch."""
    found = []
    with torch.no_grad():
        for batch in CaptionBatches([stage], SEED):
            tokens = model.visual.trunk.forward_features(normalise(batch["pixels"]))
            texts = F.pad(batch["texts"], (0, model.context_length - batch["texts"].shape[1]))
            found.append((tokens.half(), model.encode_text(texts, normalize=True), batch["same"]))
    return found


def _train(model: nn.Module, batches: list[tuple[Tensor, Tensor, Tensor]], passes: int) -> None:
    """Train pool, projection, scale and bias under SigLIP's loss."""
    trunk, project = model.visual.trunk, model.visual.head
    head = [*trunk.attn_pool.parameters(), *project.parameters()]
    trained = [*head, model.logit_scale, model.logit_bias]
    for parameter in trained:
        parameter.requires_grad_()
    adamw = torch.optim.AdamW(trained, weight_decay=0.01)
    steps = passes * len(batches)
    schedule = torch.optim.lr_scheduler.OneCycleLR(adamw, 2e-3, total_steps=steps, pct_start=0.1)
    for step in range(steps):
        if step % len(batches) == 0:
            order = torch.randperm(len(batches)).tolist()
        tokens, texts, same = batches[order[step % len(batches)]]
        images = F.normalize(project(trunk.forward_head(tokens.float())), dim=1)
        loss = sigmoid_loss(model.logit_scale.exp() * images @ texts.T + model.logit_bias, same)
        adamw.zero_grad()
        loss.backward()
        adamw.step()
        schedule.step()
    model.requires_grad_(False)
    top1 = same.gather(1, (images @ texts[: len(images)].T).argmax(1, keepdim=True))
    print(
        f"last batch: loss {loss.item():.2f}, {100 * top1.float().mean():.0f} % pick their caption"
    )
