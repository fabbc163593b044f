"""The parts of ``benchmarks/published_maskinversion.py``: ours against the authors' code."""
