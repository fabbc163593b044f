"""Captions for the regions of many images, on any number of processes."""

from regionlm.bulk.captioning import caption_manifest
from regionlm.bulk.output import Summary

__all__ = ["Summary", "caption_manifest"]
