"""Drift of production cells from the cells that a model knows: statistics, metrics for Prometheus, incidents."""
