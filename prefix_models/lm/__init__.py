"""What we know of a language model that is not ours: its cache, its files, its adapters."""
