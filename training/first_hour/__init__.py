"""A few hundred regions with phrases, to train on in the first hour; `make` composes them.

`regions.jsonl` has every thing of every scene with its phrase, `images.jsonl` the same images with
captions of the whole.
"""
