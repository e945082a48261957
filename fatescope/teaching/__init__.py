"""Teach a model new classes from a few labels: a linear head on what the network of a bundle sees of a cell."""
