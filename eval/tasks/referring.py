"""Referring expression retrieval: which mask does the expression mean, and back. Table 1."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from eval.datasets.sample import Sample
from eval.metrics import RetrievalAccuracy, SelectionIoU
from eval.metrics.functional import overlap, target_ranks
from eval.tasks.task import Embed, Record, cosines, rounded
from regionlm.backbones.clip_vit import ClipViT


class ReferringRetrieval:
    """Rank an image's masks by the cosine of their embeddings with an expression.

    Text to mask is the paper's body text and the only reading that has IoUs; mask to text is the
    caption of its Table 1.

    Args:
        backbone: embeds the expressions.
        embedder: embeds the regions, on the same backbone.
        template: prompt, ``{}`` where the expression goes.
    """

    def __init__(
        self,
        backbone: ClipViT,
        embedder: Embed,
        template: str = "{}",
    ) -> None:
        self.backbone, self.embedder, self.template = backbone, embedder, template

    def answer(self, sample: Sample) -> list[Record]:
        """One record an expression."""
        # Equal texts are embedded once: their scores are then equal to the last bit.
        distinct = list(dict.fromkeys(sample.texts))
        prompts = [self.template.format(text) for text in distinct]
        regions = self.embedder(sample.image, sample.masks).embeddings
        scores = cosines(self.backbone.embed_texts(prompts), regions).cpu()
        scores = scores[[distinct.index(text) for text in sample.texts]]
        targets = torch.tensor(sample.targets)
        ranks = target_ranks(scores, targets)
        back = target_ranks(scores.T[targets], torch.arange(len(targets)))
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
                    "rank_mask_to_text": int(back[i]),
                    "intersection": both,
                    "union": either,
                    "masks": len(sample.masks),
                }
            )
        return records


def referring_metrics(images: Iterable[list[Record]]) -> dict[str, float]:
    """``acc@k``, ``miou`` and ``oiou`` of text to mask; ``mask_to_text_acc@k``."""
    # No syncing: the records are those of all processes.
    forward, backward = (RetrievalAccuracy(sync_on_compute=False) for _ in range(2))
    iou = SelectionIoU(sync_on_compute=False)
    for records in images:
        columns = {
            name: torch.tensor([record[name] for record in records], dtype=torch.int64)
            for name in ("rank", "rank_mask_to_text", "intersection", "union")
        }
        forward.update(columns["rank"])
        backward.update(columns["rank_mask_to_text"])
        iou.update(columns["intersection"], columns["union"])
    found = {**forward.compute(), **iou.compute()}
    found |= {f"mask_to_text_{name}": value for name, value in backward.compute().items()}
    return {name: float(value) for name, value in found.items()}
