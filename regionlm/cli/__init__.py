"""The `regionlm` command: words and files in, Python calls out."""
