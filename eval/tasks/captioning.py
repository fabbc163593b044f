"""Localized captioning: does a region's caption fit its own expression best? Table 6."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch

from eval.datasets.sample import Sample
from eval.metrics import CaptionAccuracy
from eval.metrics.functional import caption_choice
from eval.tasks.task import Embed, Record, cosines, rounded
from regionlm.backbones.clip_vit import ClipViT
from regionlm.captioner import RegionCaptioner


class LocalizedCaptioning:
    """Caption every mask; match the captions to the image's expressions with a text encoder.

    A caption is right if the nearest expression is the text of its own mask. Masks that no
    expression means are not asked about.

    Args:
        captioner: its prefix model writes the captions.
        embedder: embeds the regions, on the captioner's backbone.
        judge: whose text tower compares captions with expressions (the paper: OpenAI ViT-L/14).
        decoding: options of ``ClipCap.generate``.
    """

    def __init__(
        self,
        captioner: RegionCaptioner,
        embedder: Embed,
        judge: ClipViT,
        decoding: Mapping[str, Any] | None = None,
    ) -> None:
        self.captioner, self.embedder, self.judge = captioner, embedder, judge
        self.decoding = dict(decoding or {})

    def answer(self, sample: Sample) -> list[Record]:
        """One record an expression: its region's caption and the expression nearest to that."""
        regions = list(dict.fromkeys(sample.targets))
        found = self.embedder(sample.image, sample.masks[regions])
        prefixes = self.captioner.prefix_embeddings(found)
        captions = self.captioner.prefix_model.generate(prefixes, **self.decoding)
        said = [caption.text.rstrip(". ") for caption in captions]
        similarities = cosines(
            self.judge.embed_texts(said), self.judge.embed_texts(list(sample.texts))
        ).cpu()
        nearest = caption_choice(similarities, sample.texts)
        records = []
        for i, (text, target) in enumerate(zip(sample.texts, sample.targets, strict=True)):
            row = regions.index(target)
            choice = nearest[row]
            records.append(
                {
                    "text_id": sample.text_ids[i],
                    "text": text,
                    "mask": sample.mask_ids[target],
                    "caption": captions[row].text,
                    "logprob": rounded(captions[row].logprob),
                    "nearest": sample.texts[choice],
                    "score": rounded(similarities[row, choice].item()),
                    "correct": sample.texts[choice] == text,
                    "expressions": len(set(sample.texts)),
                }
            )
        return records


def caption_metrics(images: Iterable[list[Record]]) -> dict[str, float]:
    """``micro`` and ``macro`` accuracy, with and without images of a single expression."""
    metric = CaptionAccuracy(sync_on_compute=False)
    for records in images:
        if records:
            correct = torch.tensor([record["correct"] for record in records])
            metric.update(correct, records[0]["expressions"])
    return {name: float(value) for name, value in metric.compute().items()}
