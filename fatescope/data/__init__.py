"""Cells: paths, images, features, the dataset on disk and its splits. No PyTorch."""
