"""Referring expression retrieval: which mask does the expression mean, and back. Table 1."""

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
    """Rank an image's masks by the cosine of their embeddings with an expression.

    Text to mask is the paper's body text and the only reading that has IoUs; mask to text is the
    caption of its Table 1.

    In mask to text, equal expressions are one candidate, so regions that share an expression share
    its rank. The text is all that is compared: nothing could tell which copy was chosen, and a
    choice among copies would only reward the order of the file. Captioning counts alike.

    Args:
        backbone: embeds the expressions.
        embedder: embeds the regions, on the same backbone.
        template: prompt, ``{}`` where the expression goes.
    """

    def __init__(
        self,
        backbone: ClipViT,
        embedder: RegionEmbedder,
        template: str = TEMPLATE,
    ) -> None:
        self.backbone, self.embedder, self.template = backbone, embedder, template

    def answer(self, sample: Sample, shown: np.ndarray | None = None) -> list[Record]:
        """One record an expression."""
        # Equal texts and equal vectors are compared once: their scores are then equal to the last
        # bit, which a matrix product does not promise.
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
    """Positions of the different rows of ``[M, d]``, and for each row which of these it equals."""
    groups = torch.unique(rows, dim=0, return_inverse=True)[1].tolist()
    order = list(dict.fromkeys(groups))
    return [groups.index(group) for group in order], [order.index(group) for group in groups]


def referring_metrics(images: Iterable[list[Record]]) -> dict[str, float]:
    """``acc@k``, ``miou`` and ``oiou`` of text to mask, over expressions; ``mask_to_text_acc@k``,
    over the masks that they mean, by the best of each mask's expressions.

    ``*_multi`` leave out images with a single mask (in PhraseCut: a single phrase), where text to
    mask can't fail; they are there if some images are like that. ``acc@1_per_object`` is the mean
    over objects of the share of their expressions; it is there if some have several.

    Two diagnoses of text to mask besides: ``expected_acc@k``, with ties broken at random, and
    ``chance_acc@k``, of a method to which all masks of an image are alike; it needs no model and
    tells which split and which candidates a published figure was taken on.
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
