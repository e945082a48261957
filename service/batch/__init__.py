"""Batch jobs: a folder of many cells, here or on a Ray cluster."""
