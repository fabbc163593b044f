"""The making of the bundled model `mini`, step by step, and its measurement."""
