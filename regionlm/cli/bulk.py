"""`regionlm caption --manifest`: captions a manifest and reports how it went."""

from __future__ import annotations

import sys
from dataclasses import asdict

from regionlm.cli.options import Bulk, Decoding, Embedding, ModelRun
from regionlm.cli.together import own_options
from regionlm.distributed.rank import is_first_process


def caption_many(
    manifest: str,
    output: str,
    bulk: Bulk,
    model: ModelRun,
    embedding: Embedding,
    decoding: Decoding,
) -> None:
    """Caption a manifest; say on stderr what was skipped and how fast it went."""
    from regionlm.bulk import caption_manifest

    summary = caption_manifest(
        manifest,
        output,
        model=model.model,
        device=model.device,
        offline=model.offline,
        trunk=model.chosen,
        embedder=embedding.embedder,
        embedder_options=own_options(embedding),
        devices=bulk.devices,
        workers=bulk.workers,
        ray=bulk.ray,
        skip_bad=bulk.skip_bad,
        **asdict(decoding),
    )
    if not is_first_process():
        return
    for skipped in summary.named:
        print("regionlm: skipped:", skipped, file=sys.stderr)
    if summary.bad > len(summary.named):
        rest = summary.bad - len(summary.named)
        print(f"regionlm: skipped: {rest} more, see the errors in {output}", file=sys.stderr)
    print(f"regionlm: {summary}", file=sys.stderr)
    print(f"{output}: {summary.lines} lines")
