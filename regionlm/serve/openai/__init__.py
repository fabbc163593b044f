"""OpenAI's chat completions, so that its clients work unchanged: images in, captions out."""
