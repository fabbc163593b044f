"""Referring expression retrieval, for Table 1: which mask does an expression mean, and back?"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from eval.metrics import ExpectedAccuracy, RetrievalAccuracy, SelectionIoU
from eval.metrics.functional import macro_accuracy, overlap, target_ranks, tie_counts
from eval.tasks.region_task import Record, RegionEmbedder, cosines, rounded, shown_masks
from regionlm.backbones.clip_vit import ClipViT
from regionlm.datasets.sample import Sample

TEMPLATE = "{}"


class ReferringRetrieval:
    """Rank an image's masks by the cosine of their embeddings with an expression, and back.

    The paper's text describes text to mask, which is also the only direction with IoUs; the caption
    of its Table 1 describes mask to text.

    In mask to text, equal expressions are one candidate, so regions that share an expression share
    its rank. Only texts are compared, so nothing tells one copy from another, and breaking such
    ties would only reward the order of the file. Captioning counts in the same way.

    Args:
        backbone: embeds the expressions.
        embedder: embeds the regions, on the same backbone.
        template: prompt with ``{}`` in place of the expression.
    """

    def __init__(
        self,
        backbone: ClipViT,
        embedder: RegionEmbedder,
        template: str = TEMPLATE,
    ) -> None:
        self.backbone, self.embedder, self.template = backbone, embedder, template

    def answer(self, sample: Sample, shown: np.ndarray | None = None) -> list[Record]:
        """Return a record for each expression."""
        # Equal texts and equal embeddings are compared once, so that their scores are equal to the
        # last bit, which a matrix product does not guarantee.
        distinct = list(dict.fromkeys(sample.texts))
        prompts = [self.template.format(text) for text in distinct]
        regions = self.embedder(sample.image, shown_masks(sample, shown)).embeddings
        unlike, alike = _first_of_equals(regions)
        scores = cosines(self.backbone.embed_texts(prompts), regions[unlike]).cpu()
        scores = scores[:, alike]
        targets = torch.tensor(sample.targets)
        texts = torch.tensor([distinct.index(text) for text in sample.texts])
        back = target_ranks(scores.T[targets], texts).tolist()
        scores = scores[texts]
        ranks, (above, tied) = target_ranks(scores, targets), tie_counts(scores, targets)
        best = scores.max(1)
        records = []
        for i, (text, target) in enumerate(zip(sample.texts, sample.targets, strict=True)):
            chosen = int(best.indices[i])
            both, either = overlap(sample.masks[chosen], sample.masks[target])
            records.append(
                {
                    "text_id": sample.text_ids[i],
                    "text": text,
                    "mask": sample.mask_ids[target],
                    "chosen": sample.mask_ids[chosen],
                    "score": rounded(best.values[i].item()),
                    "rank": int(ranks[i]),
                    "above": int(above[i]),
                    "tied": int(tied[i]),
                    "rank_mask_to_text": min(
                        rank
                        for rank, other in zip(back, sample.targets, strict=True)
                        if other == target
                    ),
                    "intersection": both,
                    "union": either,
                    "masks": len(sample.masks),
                }
            )
        return records


def _first_of_equals(rows: Tensor) -> tuple[list[int], list[int]]:
    """Return where the different rows of ``[M, d]`` are first, and each row's index among them."""
    groups = torch.unique(rows, dim=0, return_inverse=True)[1].tolist()
    order = list(dict.fromkeys(groups))
    return [groups.index(group) for group in order], [order.index(group) for group in groups]


def referring_metrics(images: Iterable[list[Record]]) -> dict[str, float]:
    """Return the figures of both directions.

    ``acc@k``, ``miou`` and ``oiou`` of text to mask are over expressions. ``mask_to_text_acc@k`` is
    over the masks that they mean, by the best of each mask's expressions.

    ``*_multi`` leave out images with a single mask (in PhraseCut, a single phrase), where text to
    mask can't fail; they are there if some images have one. ``acc@1_per_object`` is the mean over
    objects of the share of right expressions; it is there if some objects have several.

    Two more figures help to judge text to mask: ``expected_acc@k``, with ties broken at random, and
    ``chance_acc@k``, of a method that can't tell an image's masks apart. The latter needs no model
    and tells on which split and candidates a published figure was measured.
    """
    answered = [records for records in images if records]
    found = _table_1(answered)
    several = [records for records in answered if records[0]["masks"] > 1]
    if 0 < len(several) < len(answered):
        found |= {f"{name}_multi": value for name, value in _table_1(several).items()}
    return found | _per_object(answered) | _ties(answered)


def _table_1(images: Sequence[list[Record]]) -> dict[str, float]:
    # No syncing: the records are those of all processes.
    forward, backward = (RetrievalAccuracy(sync_on_compute=False) for _ in range(2))
    iou = SelectionIoU(sync_on_compute=False)
    for records in images:
        one_a_mask = {record["mask"]: record for record in records}
        forward.update(_column(records, "rank"))
        backward.update(_column(one_a_mask.values(), "rank_mask_to_text"))
        iou.update(_column(records, "intersection"), _column(records, "union"))
    found = {**forward.compute(), **iou.compute()}
    found |= {f"mask_to_text_{name}": value for name, value in backward.compute().items()}
    return {name: float(value) for name, value in found.items()}


def _per_object(images: Sequence[list[Record]]) -> dict[str, float]:
    hits: dict[tuple[int, str], list[bool]] = {}
    for image, records in enumerate(images):
        for record in records:
            hits.setdefault((image, record["mask"]), []).append(record["rank"] == 0)
    totals = [len(flags) for flags in hits.values()]
    if max(totals, default=1) == 1:
        return {}
    right = torch.tensor([sum(flags) for flags in hits.values()])
    return {"acc@1_per_object": macro_accuracy(right, torch.tensor(totals))}


def _ties(images: Sequence[list[Record]]) -> dict[str, float]:
    expected, chance = (ExpectedAccuracy(sync_on_compute=False) for _ in range(2))
    for records in images:
        expected.update(_column(records, "above"), _column(records, "tied"))
        masks = _column(records, "masks")
        chance.update(torch.zeros_like(masks), masks)
    found = expected.compute()
    found |= {name.replace("expected", "chance"): value for name, value in chance.compute().items()}
    return {name: float(value) for name, value in found.items()}


def _column(records: Iterable[Record], name: str) -> Tensor:
    return torch.tensor([record[name] for record in records], dtype=torch.int64)
