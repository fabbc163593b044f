"""Captions as Parquet: a row for each line of the manifest, with what JSON lines hold."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import islice
from typing import Any, BinaryIO

from regionlm.distributed.journal import Answer
from regionlm.extras import extra

with extra("bulk"):
    import pyarrow as pa
    import pyarrow.parquet as pq

_TOGETHER = 10_000  # rows of a group
_FIGURES = ("logprob", "dice", "iou", "cosine_to_image")
_REGION = pa.struct(
    [
        ("region", pa.string()),
        ("caption", pa.string()),
        *((figure, pa.float64()) for figure in _FIGURES),
        ("error", pa.string()),
    ]
)


def columns(answers: Iterable[Answer]) -> pa.Schema:
    """The columns for these answers: an id of whole numbers if all are, else of text."""
    whole, texts = True, dict.fromkeys(["image"])
    for answer in answers:
        whole = whole and isinstance(answer["id"], int) and abs(answer["id"]) < 2**63
        texts.update(dict.fromkeys(name for name in answer if name not in ("id", "regions")))
    names = [name for name in texts if name != "error"]
    return pa.schema(
        [
            ("id", pa.int64() if whole else pa.string()),
            *((name, pa.string()) for name in names),
            ("regions", pa.list_(_REGION)),
            ("error", pa.string()),
        ]
    )


def write_parquet(stream: BinaryIO, schema: pa.Schema, answers: Iterable[Answer]) -> None:
    """Write answers to a file, in their order.

    What the name of a file holds that is not Unicode stands there as an escape, such as
    ``\\udcff``.
    """
    has_texts = schema.field("id").type == pa.string()
    with pq.ParquetWriter(stream, schema, compression="zstd") as writer:
        left = iter(answers)
        while several := list(islice(left, _TOGETHER)):
            rows = [_unicode(answer) for answer in several]
            if has_texts:
                rows = [{**row, "id": str(row["id"])} for row in rows]
            writer.write_table(pa.Table.from_pylist(rows, schema))


def _unicode(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_unicode(one) for one in value]
    if isinstance(value, dict):
        return {name: _unicode(one) for name, one in value.items()}
    return value
