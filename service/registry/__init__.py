"""The versions that are served: bundles on disk, in step with the registry."""
