"""Batch jobs: classify a folder of any number of images, on this machine or on a Ray cluster."""
