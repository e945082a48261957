"""The networks in PyTorch: backbones, the head that they share, ensembles, and symmetries of images."""
