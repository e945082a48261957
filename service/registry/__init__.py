"""Which versions are served: bundles on disk, kept as the registry has them."""
