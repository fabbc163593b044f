"""The web page at /: our own files, no others, under a strict Content-Security-Policy."""
