"""From a name to the parts of a model: bundles, presets, the hub."""
