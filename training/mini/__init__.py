"""How the bundled model `mini` is made and measured, step by step."""
