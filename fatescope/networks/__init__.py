"""The networks in PyTorch: backbones, the head that all of them share, and symmetries of images."""
