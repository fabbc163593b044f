"""Other ways down to the same Dice: how many steps a schedule, a start or a stop saves.

    python benchmarks/descent.py                        # random ViT-B/16, and 40 scenes of mini
    python benchmarks/descent.py --masks 3 --scenes 10  # sooner

Every variant is an exact MaskInversion. The table says how well the map of the vector after so many
steps matches (soft Dice, mean over the masks), and for mini how often a region's vector picks its
text among the scene's. ``steps`` of a variant that stops is the mean over masks.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from PIL import Image
from published.cases import VISION, build_model, image_array, mask_arrays
from torch import Tensor
from torch.optim import AdamW

from eval.tasks.region_task import cosines
from regionlm.backbones import ClipViT
from regionlm.captioner import RegionCaptioner
from regionlm.datasets import open_dataset
from regionlm.embedders.coverage import mask_coverage
from regionlm.embedders.dice import GridDice
from regionlm.embedders.maskinversion import MaskInversion
from regionlm.embedders.side_by_side import ImageMasks
from regionlm.relevance.methods import Relevance


class Variant(MaskInversion):
    """MaskInversion with another way down.

    Args:
        decay: the learning rate falls to nothing over the steps, linearly.
        local: start at the readout of the mean of the mask's patches, of the start's norm.
        stop: a mask keeps its vector once a step gains less Dice than this.
        beta: AdamW's second beta.
    """

    def __init__(
        self,
        backbone: ClipViT,
        *,
        decay: bool = False,
        local: bool = False,
        stop: float | None = None,
        beta: float = 0.999,
        **options: Any,
    ) -> None:
        super().__init__(backbone, **options)
        self.decay, self.local, self.stop, self.beta = decay, local, stop, beta
        self.taken = torch.zeros(0)

    def _invert(self, asked: ImageMasks) -> Any:
        self._seen = asked.encoded, asked.masks
        return super()._invert(asked)

    def _descend(
        self, method: Relevance, rough: Relevance, dice: GridDice, starts: Tensor, count: int
    ) -> tuple[Tensor, Tensor]:
        begin = self._local_starts(starts[0]) if self.local else starts.expand(count, -1)
        lets, losses, taken = [], [], []
        for index in range(count):
            let, loss = self._alone(method, dice, begin[index, None].clone(), starts, index)
            lets.append(let)
            losses.append(F.pad(loss, (0, self.steps - len(loss)), value=float(loss[-1])))
            taken.append(len(loss))
        self.taken = torch.tensor(taken).float()
        return torch.cat(lets), torch.stack(losses, 1)

    def _alone(
        self, method: Relevance, dice: GridDice, let: Tensor, start: Tensor, index: int
    ) -> tuple[Tensor, Tensor]:
        adamw = AdamW([let], self.lr, betas=(0.9, self.beta), weight_decay=0, foreach=False)
        losses: list[Tensor] = []
        for number in range(self.steps):
            if self.decay:
                adamw.param_groups[0]["lr"] = self.lr * (1 - number / self.steps)
            maps = method.forward(F.normalize(let, dim=1))
            loss, dmaps = dice(maps, slice(index, index + 1))
            losses.append(loss)
            if self.stop is not None and number and losses[-2] - loss < self.stop:
                break
            _, let.grad = self._objective(let, start, loss, method.backward(dmaps))
            adamw.step()
        return let, torch.cat(losses)

    def _local_starts(self, start: Tensor) -> Tensor:
        encoded, masks = self._seen
        head = encoded.head
        out = head.block.after_mlp(encoded.residual[0, head.prefix :])
        weights = mask_coverage(masks, encoded.grid).to(out)
        weights = weights / weights.sum(1, keepdim=True)
        return F.normalize(head.readout(weights @ out), dim=1) * start.norm()


VARIANTS: dict[str, dict[str, Any]] = {
    "as it is": {},
    "lr x 2": {"lr": 2.0},
    "lr x 4": {"lr": 4.0},
    "second beta 0.9": {"beta": 0.9},
    "lr x 2, falling to 0": {"lr": 2.0, "decay": True},
    "start at the mask's patches": {"local": True},
    "stop at a gain below 0.002": {"stop": 0.002},
}
STEPS = (3, 5, 7, 10, 15)


def variants(backbone: ClipViT, lr: float, **options: Any) -> Iterator[tuple[str, int, Variant]]:
    """Name, number of steps and embedder."""
    for name, changed in VARIANTS.items():
        rate = lr * changed.get("lr", 1.0)
        for steps in STEPS:
            yield (
                name,
                steps,
                Variant(backbone, **{**options, **changed, "lr": rate, "steps": steps}),
            )


def random_table(options: argparse.Namespace) -> None:
    """Dice by steps on random weights."""
    backbone = ClipViT(build_model(options.model))
    encoded = backbone.encode(
        backbone.preprocess(Image.fromarray(image_array()), options.size)[None]
    )
    masks = mask_arrays(options.masks)
    print(f"{options.model}, random weights, {options.size} px, {len(masks)} masks, lr 0.1\n")
    _head()
    cells: dict[str, list[str]] = {}
    for name, _, embedder in variants(backbone, 0.1, size=options.size):
        (found,) = embedder.invert(encoded, [masks])
        cells.setdefault(name, []).append(_cell(embedder, found.dice))
        _row(name, cells[name])


def mini_table(scenes: int) -> None:
    """Dice and mask to text by steps on the bundled benchmark."""
    captioner = RegionCaptioner.from_pretrained("mini", offline=True)
    backbone = captioner.backbone
    dataset = open_dataset("mini", None, limit=scenes)
    samples = [dataset[number] for number in range(len(dataset))]
    lr = backbone.inversion_defaults["lr"]
    size = MaskInversion(backbone).size
    encodings = [backbone.encode(backbone.preprocess(s.image, size)[None]) for s in samples]
    texts = [backbone.embed_texts(list(sample.texts)) for sample in samples]
    print(f"\nmini, {len(samples)} scenes, lr {lr}; Dice, and mask to text acc@1\n")
    _head()
    cells: dict[str, list[str]] = {}
    for name, _, embedder in variants(backbone, lr):
        dice, right, taken = [], [], []
        for sample, encoded, words in zip(samples, encodings, texts, strict=True):
            (found,) = embedder.invert(encoded, [sample.masks])
            dice.append(found.dice)
            taken.append(embedder.taken)
            nearest = cosines(found.embeddings, words).argmax(1)
            right += [sample.targets[at] == row for row, at in enumerate(nearest.tolist())]
        embedder.taken = torch.cat(taken)
        accuracy = 100 * sum(right) / len(right)
        cells.setdefault(name, []).append(f"{_cell(embedder, torch.cat(dice))}, {accuracy:.1f}")
        _row(name, cells[name])


def _head() -> None:
    print("| way down | " + " | ".join(f"{steps} steps" for steps in STEPS) + " |")
    print("|---" * (1 + len(STEPS)) + "|")


def _cell(embedder: Variant, dice: Tensor) -> str:
    taken = "" if embedder.stop is None else f" ({embedder.taken.mean():.1f})"
    return f"{dice.mean():.4f}{taken}"


def _row(name: str, cells: Sequence[str]) -> None:
    if len(cells) == len(STEPS):
        print(f"| {name} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", choices=sorted(VISION), default="ViT-B-16")
    parser.add_argument("--size", type=int, default=448, help="input, pixels [%(default)s]")
    parser.add_argument("--masks", type=int, default=10, help="[%(default)s]")
    parser.add_argument("--scenes", type=int, default=40, help="of mini [%(default)s]")
    options = parser.parse_args()
    random_table(options)
    mini_table(options.scenes)


if __name__ == "__main__":
    main()
