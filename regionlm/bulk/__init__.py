"""Captions for a whole list of images: one command, on any number of processes."""

from regionlm.bulk.output import Summary
from regionlm.bulk.run import caption_manifest

__all__ = ["Summary", "caption_manifest"]
