"""Class retrieval, for Tables 2, 3, 4 and 8: which of the dataset's classes is in the mask?"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from eval.metrics import RetrievalAccuracy
from eval.metrics.functional import target_ranks
from eval.tasks.region_task import Record, RegionEmbedder, cosines, rounded, shown_masks
from regionlm.backbones.clip_vit import ClipViT
from regionlm.datasets.sample import Sample

TEMPLATE = "a photo of a {}"


class ClassRetrieval:
    """Rank a dataset's class names by their cosine with a region's embedding.

    Args:
        backbone: embeds the class names.
        embedder: embeds the regions, on the same backbone.
        classes: all names.
        template: prompt with ``{}`` in place of the name. The paper shows this one and no others.
        relatives: for each class, indices of those that contain it or that it contains. Records
            then also hold the best rank among the class and its relatives.
    """

    def __init__(
        self,
        backbone: ClipViT,
        embedder: RegionEmbedder,
        classes: Sequence[str],
        template: str = TEMPLATE,
        relatives: Sequence[Collection[int]] = (),
    ) -> None:
        self.relatives = relatives
        self.embedder, self.classes = embedder, list(classes)
        self.words = backbone.embed_texts([template.format(name) for name in classes])

    def answer(self, sample: Sample, shown: np.ndarray | None = None) -> list[Record]:
        """Return a record for each region: its class, the best class and the rank of its own."""
        regions = self.embedder(sample.image, shown_masks(sample, shown)).embeddings
        scores = cosines(regions, self.words).cpu()
        ranks = target_ranks(scores, torch.tensor(sample.labels))
        best = scores.max(1)
        columns = (
            sample.mask_ids, sample.labels, best.indices.tolist(), best.values.tolist(),
            ranks.tolist(),
        )  # fmt: skip
        return [
            {
                "mask": mask,
                "label": self.classes[label],
                "best": self.classes[choice],
                "score": rounded(score),
                "rank": rank,
                **self._tolerantly(row, label),
            }
            for mask, label, choice, score, rank, row in zip(*columns, scores, strict=True)
        ]

    def _tolerantly(self, scores: Tensor, label: int) -> dict[str, int]:
        if not self.relatives:
            return {}
        right = torch.tensor([label, *self.relatives[label]])
        ranks = target_ranks(scores.expand(len(right), -1), right)
        return {"rank_tolerant": int(ranks.min())}


def class_metrics(images: Iterable[list[Record]]) -> dict[str, float]:
    """Return ``acc@1``, ``acc@5`` and ``acc@10`` over all regions.

    If the hierarchy of the classes is known, also ``acc@k_tolerant``, for which classes that
    contain the right one, or that it contains, count as right.
    """
    records = [record for image in images for record in image]
    figures = _accuracy(records, "rank")
    if records and "rank_tolerant" in records[0]:
        tolerant = _accuracy(records, "rank_tolerant")
        figures |= {f"{name}_tolerant": value for name, value in tolerant.items()}
    return figures


def _accuracy(records: Iterable[Record], rank: str) -> dict[str, float]:
    metric = RetrievalAccuracy(sync_on_compute=False)
    metric.update(torch.tensor([record[rank] for record in records], dtype=torch.int64))
    return {name: float(value) for name, value in metric.compute().items()}
