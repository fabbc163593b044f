"""An HTTP service over one engine: `regionlm serve`."""
