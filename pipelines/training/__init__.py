"""Training: the loop, pixels, augmentation, several GPUs, selection between candidates, calibration."""
