"""Training: cells and batches, augmentation, the loop, several GPUs, candidates and their calibration, bundles."""
