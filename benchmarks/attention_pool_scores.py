"""Which score, start and attention should MaskInversion use on a model that pools with attention?

    python benchmarks/attention_pool_scores.py
    python benchmarks/attention_pool_scores.py --siglip-head
    python benchmarks/attention_pool_scores.py --model MODEL --limit 5 --lr 0.1

Ten steps on the bundled benchmark's scenes. All maps come from automatic differentiation of what is
written here, so candidates need no closed form. There is a row for each score, start and attention:

- scores of a token t and the pooled vector f: `dot` t . f; `cosine` t . f / |f|; `logit` and
  `probability`, SigLIP's own, of the cosine;
- starts: `image` (f itself), `unit` (f / |f|), `even` (what the pool makes of its tokens when it
  attends to all alike);
- attentions: `pool`, the pool's own; `block`, the last transformer block's, as LeGrad does where
  the mean of all tokens is scored: with an even attention in the pool.

The last rows are MaskInversion's own with `score="published"`, the authors' reading of such models.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from siglip_head import siglip_like
from torch import Tensor
from torch.optim import AdamW

from regionlm import ClipViT, RegionEncoder
from regionlm.backbones.vision import EncodedImages
from regionlm.datasets import open_dataset
from regionlm.datasets.sample import Sample
from regionlm.embedders.dice import GridDice
from regionlm.embedders.maskinversion import MaskInversion
from regionlm.relevance.resize import GridToMask

STEPS = 10
COLUMNS = ("Dice of the first map", "Dice", "picks its phrase", "cosine to the image")


@dataclass(frozen=True)
class Candidate:
    """A row: how maps are made, and where inversion starts."""

    score: str
    start: str = "image"
    attention: str = "pool"


CANDIDATES = (
    Candidate("dot"),
    Candidate("cosine"),
    Candidate("logit"),
    Candidate("probability"),
    Candidate("dot", "unit"),
    Candidate("cosine", "unit"),
    Candidate("dot", "even"),
    Candidate("cosine", "even"),
    Candidate("dot", attention="block"),
    Candidate("cosine", attention="block"),
)
PUBLISHED = Candidate("published")  # by MaskInversion


class PooledImage:
    """One image of an attention-pooled model, as functions of attention.

    Args:
        backbone: the model.
        pixels: `[1, 3, H, W]`.
    """

    def __init__(self, backbone: ClipViT, pixels: Tensor) -> None:
        self.encoded: EncodedImages = backbone.encode(pixels)
        self.head = self.encoded.head
        self.prefix = self.head.prefix
        self.image = self.encoded.embeddings[0]
        self.block = backbone.blocks()[-1].at(self.encoded.grid)
        with torch.no_grad():
            self.before, _ = backbone.trunk(pixels, without=2)  # a block and the pool
        self.logit = (backbone.model.logit_scale.exp().detach(), backbone.model.logit_bias.detach())

    def pooled(self, tokens: Tensor, attention: Tensor | None = None) -> Tensor:
        """What the pool makes of tokens `[m, N, D]` with an attention `[m, heads, 1, N]`, or an
        even one: `[m, d]`."""
        _, _, values = self.head.block.qkv(tokens)
        mixed = values.mean(2, keepdim=True) if attention is None else attention @ values
        x1 = self.head.block.after_attention(tokens, mixed)
        return self.head.readout(self.head.block.after_mlp(x1).mean(1))

    def maps(self, candidate: Candidate, tokens: Tensor) -> Tensor:
        """Maps `[m, gh, gw]`, differentiable in unit vectors `[m, d]`."""
        pool, block = self.head.block, self.block
        seen, at = (
            (self.encoded.block_input, pool)
            if candidate.attention == "pool"
            else (self.before, block)
        )
        seen = seen.expand(len(tokens), -1, -1)
        with torch.enable_grad():
            queries, keys, values = at.qkv(seen)
            logits = queries @ keys.transpose(-1, -2) * queries.shape[-1] ** -0.5
            attention = logits.softmax(-1).detach().requires_grad_()
            if at is pool:
                pooled = self.pooled(seen, attention)
            else:
                pooled = self.pooled(at.after_mlp(at.after_attention(seen, attention @ values)))
            score = self.score(candidate.score, tokens, pooled).sum()
            (gradient,) = torch.autograd.grad(score, attention, create_graph=True)
            return gradient.relu().mean((1, 2))[:, self.prefix :].view(-1, *self.encoded.grid)

    def score(self, name: str, tokens: Tensor, pooled: Tensor) -> Tensor:
        """The scores `[m]` of unit vectors and pooled vectors `[m, d]`."""
        if name == "dot":
            return (tokens * pooled).sum(1)
        cosine = (tokens * F.normalize(pooled, dim=1)).sum(1)
        if name == "cosine":
            return cosine
        scale, bias = self.logit
        logit = scale * cosine + bias
        return logit.sigmoid() if name == "probability" else logit

    def start(self, name: str) -> Tensor:
        """Where inversion starts, `[d]`."""
        if name == "even":
            return self.pooled(self.encoded.block_input)[0].detach()
        return F.normalize(self.image, dim=0) if name == "unit" else self.image


def invert(
    image: PooledImage, candidate: Candidate, dice: GridDice, count: int, lr: float
) -> tuple[Tensor, Tensor, Tensor]:
    """LETs `[M, d]`, Dice of their maps, and Dice of the map at the start, both `[M]`."""
    lets = image.start(candidate.start).repeat(count, 1).requires_grad_()
    adamw = AdamW([lets], lr, weight_decay=0, foreach=False)
    make = partial(image.maps, candidate)
    found = []
    for _ in range(STEPS):
        maps = make(F.normalize(lets, dim=1))
        loss, slope = dice(maps.detach())
        found.append(1 - loss)
        (gradient,) = torch.autograd.grad(maps, lets, slope)
        lets.grad = gradient / count
        adamw.step()
    loss, _ = dice(make(F.normalize(lets, dim=1)).detach())
    return lets.detach(), 1 - loss, found[0]


def inverted(
    backbone: ClipViT, sample: Sample, size: int, lr: float
) -> tuple[Tensor, Tensor, Tensor]:
    """As `invert`, by MaskInversion with the authors' score."""
    find = partial(MaskInversion, backbone, size=size, lr=lr, score=PUBLISHED.score)
    found = find(steps=STEPS)(sample.image, sample.masks)
    return found.embeddings, found.dice, find(steps=0)(sample.image, sample.masks).dice


def rows(
    encoder: RegionEncoder, samples: list[Sample], rates: list[float], size: int
) -> Iterator[tuple[Candidate, float, Tensor]]:
    """Each candidate's rate and columns `[4, masks]`, of all samples together."""
    backbone = encoder.backbone
    found: dict[tuple[Candidate, float], list[Tensor]] = {}
    for sample in samples:
        image = PooledImage(backbone, backbone.preprocess(sample.image, size)[None])
        masks = torch.as_tensor(sample.masks)
        resize = GridToMask.of(
            image.encoded.grid, backbone.patch_size, tuple(masks.shape[1:]), image.image
        )
        dice = GridDice(resize, masks)
        texts = F.normalize(backbone.embed_texts(list(sample.texts)), dim=1)
        for candidate in (*CANDIDATES, PUBLISHED):
            for lr in rates:
                if candidate is PUBLISHED:
                    lets, last, first = inverted(backbone, sample, size, lr)
                else:
                    lets, last, first = invert(image, candidate, dice, len(masks), lr)
                picked = (lets @ texts.T).argmax(1) == torch.arange(len(masks))
                cosine = F.cosine_similarity(lets, image.image[None])
                row = torch.stack([first, last, picked.float(), cosine])
                found.setdefault((candidate, lr), []).append(row)
    for (candidate, lr), parts in found.items():
        yield candidate, lr, torch.cat(parts, 1)


def table(
    encoder: RegionEncoder, limit: int, rates: list[float], say: Callable[[str], None] = print
) -> None:
    """Print a Markdown table of all candidates."""
    dataset = open_dataset("mini", None, limit=limit)
    samples = [dataset[number] for number in range(len(dataset))]
    size = encoder.backbone.inversion_defaults.get("size", encoder.backbone.default_size)
    say(f"{encoder.name}: {sum(len(s.masks) for s in samples)} masks, {STEPS} steps, {size} px\n")
    say("| score | start | attention of the | lr | " + " | ".join(COLUMNS) + " |")
    say("|---" * (4 + len(COLUMNS)) + "|")
    for candidate, lr, columns in rows(encoder, samples, rates, size):
        first, last, picked, cosine = columns.double().mean(1).tolist()
        names = f"{candidate.score} | {candidate.start} | {candidate.attention} | {lr:g}"
        say(f"| {names} | {first:.3f} | {last:.3f} | {100 * picked:.1f} % | {cosine:.2f} |")


def main() -> None:
    """Read the command line and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="mini-siglip", help="attention-pooled [%(default)s]")
    parser.add_argument("--limit", type=int, default=60, help="scenes [%(default)s]")
    parser.add_argument("--lr", type=float, nargs="+", default=[0.1, 0.5])
    parser.add_argument(
        "--siglip-head", action="store_true", help="train one of timm's on mini's trunk first"
    )
    options = parser.parse_args()
    if options.siglip_head:
        encoder = siglip_like()
    else:
        encoder = RegionEncoder.from_pretrained(options.model, device="cpu", offline=True)
    table(encoder, options.limit, options.lr)


if __name__ == "__main__":
    main()
