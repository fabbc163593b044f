"""ClipCap (Mokady et al. 2021): an embedding, mapped to a prefix before the text."""
