"""A few hundred regions with phrases, for a first training; `make` composes them.

`regions.jsonl` has all things of all scenes with their phrases, and `images.jsonl` the same images
with captions of the whole.
"""
