"""Lightning training: the bundled `mini` model, its composed world, and prefix adapters."""
