"""A LLaVA-style prefix model: projected embeddings inside a prompt."""
