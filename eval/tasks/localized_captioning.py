"""Localized captioning, for Table 6: does a region's caption fit its own expression best?

Beyond the paper, captions are scored against their region's expressions (CIDEr, BLEU and ROUGE-L)
and against its image (CLIPScore).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch

from eval.metrics import Bleu, CaptionAccuracy, Cider, ClipScore, RougeL
from eval.metrics.functional import caption_order
from eval.tasks.region_task import Record, RegionEmbedder, cosines, rounded, shown_masks
from regionlm.backbones.clip_vit import ClipViT
from regionlm.captioner import RegionCaptioner
from regionlm.datasets.sample import Sample
from regionlm.embedders import make_embedder

DEPICTS = "A photo depicts "  # CLIPScore's prompt
BLEU_UP_TO = 4


class LocalizedCaptioning:
    """Caption every mask, and compare the captions with the image's expressions.

    A caption is right if the nearest expression means its own mask. Equal expressions are one
    candidate, which is right for each of the masks that share it: a caption can't be nearer to one
    copy than to another. Masks without an expression are left out.

    Args:
        captioner: its prefix model writes the captions.
        embedder: embeds the regions, on the captioner's backbone.
        judge: its text tower compares captions with expressions (in the paper, OpenAI ViT-L/14).
        decoding: options of ``ClipCap.generate``.
        clipscore: whether to compute CLIPScore, too. It is defined for whole images; we take the
            crop of the region's box, squashed to the judge's input. This costs one forward of the
            judge's image tower per region, and one more.
    """

    def __init__(
        self,
        captioner: RegionCaptioner,
        embedder: RegionEmbedder,
        judge: ClipViT,
        decoding: Mapping[str, Any] | None = None,
        *,
        clipscore: bool = True,
    ) -> None:
        self.captioner, self.embedder, self.judge = captioner, embedder, judge
        self.decoding = dict(decoding or {})
        self.crop = make_embedder("crop", judge, size=judge.default_size) if clipscore else None

    def answer(self, sample: Sample, shown: np.ndarray | None = None) -> list[Record]:
        """Return a record for each region: its caption, its expressions and the nearest one."""
        regions = list(dict.fromkeys(sample.targets))
        found = self.embedder(sample.image, shown_masks(sample, shown)[regions])
        prefixes = self.captioner.prefix_embeddings(found)
        captions = self.captioner.prefix_model.generate(prefixes, **self.decoding)
        said = [caption.text.rstrip(". ") for caption in captions]
        similarities = cosines(
            self.judge.embed_texts(said), self.judge.embed_texts(list(sample.texts))
        ).cpu()
        orders = caption_order(similarities, sample.texts)
        own = [[i for i, target in enumerate(sample.targets) if target == r] for r in regions]
        texts = [[sample.texts[i] for i in indices] for indices in own]
        looks = self._looks(sample, regions, said)
        tags = {name: sample.tags[name] for name in ("coco_id",) if name in sample.tags}
        records = []
        for row, region in enumerate(regions):
            order = [sample.texts[i] for i in orders[row]]
            rank = next(i for i, text in enumerate(order) if text in texts[row])
            records.append(
                {
                    "mask": sample.mask_ids[region],
                    "text_ids": [sample.text_ids[i] for i in own[row]],
                    "texts": texts[row],
                    "caption": captions[row].text,
                    "logprob": rounded(captions[row].logprob),
                    "nearest": order[0],
                    "score": rounded(similarities[row, orders[row][0]].item()),
                    "rank": rank,
                    "expressions": len(set(map(frozenset, texts))),
                    **looks[row],
                    **tags,
                }
            )
        return records

    def _looks(
        self, sample: Sample, regions: Sequence[int], said: Sequence[str]
    ) -> list[dict[str, float]]:
        """Return the cosines of each region's caption with its crop and its best expression.

        Empty dicts without CLIPScore.
        """
        if self.crop is None:
            return [{} for _ in regions]
        captions, expressions = (
            self.judge.embed_texts([DEPICTS + text for text in texts])
            for texts in (said, sample.texts)
        )
        pictures = self.crop(sample.image, sample.masks[regions]).embeddings
        seen = cosines(captions, pictures).diagonal().cpu()
        own = torch.tensor([[target == region for target in sample.targets] for region in regions])
        told = cosines(captions, expressions).cpu().masked_fill(~own, -1).amax(1)
        return [
            {"clip_cosine": rounded(picture), "reference_cosine": rounded(text)}
            for picture, text in zip(seen.tolist(), told.tolist(), strict=True)
        ]


def caption_metrics(images: Iterable[list[Record]]) -> dict[str, float]:
    """Return the figures of Table 6, and those of captions against references and crops.

    Each region counts once, whatever the number of its expressions.

    - ``micro`` and ``macro`` accuracy; ``*_multi`` leave out images whose expressions all mean the
      same regions, most often a single one. ``micro_in_coco`` and ``micro_not_in_coco`` are there
      if some images are in COCO, on which captioners are trained.
    - ``cider``, ``bleu@1`` to ``bleu@4`` and ``rouge_l``, with the region's expressions as
      references.
    - ``clipscore`` and ``refclipscore``, if the records hold their cosines.
    """
    answered = [records for records in images if records]
    figures = _accuracy(answered)
    parts: dict[bool, list[list[Record]]] = {True: [], False: []}
    for records in answered:
        parts[records[0].get("coco_id") is not None].append(records)
    if all(parts.values()):
        figures["micro_in_coco"] = _accuracy(parts[True])["micro"]
        figures["micro_not_in_coco"] = _accuracy(parts[False])["micro"]
    return figures | _quality(answered)


def _accuracy(images: Iterable[list[Record]]) -> dict[str, float]:
    metric = CaptionAccuracy(sync_on_compute=False)
    for records in images:
        right = torch.tensor([record["rank"] == 0 for record in records])
        metric.update(right, records[0]["expressions"])
    return {name: float(value) for name, value in metric.compute().items()}


def _quality(images: Sequence[list[Record]]) -> dict[str, float]:
    """Score every region's caption."""
    lengths = range(1, BLEU_UP_TO + 1)
    texts = [Cider(sync_on_compute=False), RougeL(sync_on_compute=False)]
    texts[1:1] = [Bleu(n, sync_on_compute=False) for n in lengths]
    pictures = ClipScore(sync_on_compute=False)
    looked = False
    for records in images:
        captions = [record["caption"] for record in records]
        references = [record["texts"] for record in records]
        for metric in texts:
            metric.update(captions, references)
        if looked := "clip_cosine" in records[0]:
            columns = (
                torch.tensor([record[name] for record in records], dtype=torch.float64)
                for name in ("clip_cosine", "reference_cosine")
            )
            pictures.update(*columns)
    used = [*texts, pictures] if looked else texts
    return {name: float(v) for metric in used for name, v in metric.compute().items()}
