"""ClipCap (Mokady et al. 2021): an embedding is mapped to a prefix in front of the text."""
