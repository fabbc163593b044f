"""From names to the parts of models: bundles, presets, backbones, and the hub."""
