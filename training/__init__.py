"""Training with Lightning: prefix models on your own data, and the bundled model `mini`."""
