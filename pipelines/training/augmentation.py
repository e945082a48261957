"""Random changes of a batch of images that do not change their class: a cell in flow has no up and no left.

All functions take a whole batch on its device and draw for every cell anew; its channels are moved together. Images
are normalised: background is zero.
"""

import torch
from torch import Tensor
from torch.nn import functional

from fatescope.config import Train


def augment(images: Tensor, params: Train, stretched: bool) -> Tensor:
    """Return (B, C, H, W) normalised images, mirrored and rotated, shifted, and changed in intensity as `params` say.

    Images that were `stretched`, more along one axis than along the other, are not rotated.
    """
    if params.symmetries:
        images = random_symmetry(images, quarter=not stretched)
    if params.max_shift:
        images = shift(images, params.max_shift)
    if params.intensity:
        images = change_intensity(images, params.intensity)
    return images.contiguous(memory_format=torch.channels_last)


def random_symmetry(images: Tensor, quarter: bool = True) -> Tensor:
    """Transform each image by one of the eight symmetries of the square, or by one of the four of the rectangle.

    Without `quarter`, rotations by 90° are left out for squares too.
    """
    images = torch.where(_coin(images), images.flip(2), images)
    images = torch.where(_coin(images), images.flip(3), images)
    if quarter and images.shape[2] == images.shape[3]:
        images = torch.where(_coin(images), images.transpose(2, 3), images)
    return images


def shift(images: Tensor, most: int) -> Tensor:
    """Move each image by up to `most` px along each axis; the gap is filled with background."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (most,) * 4)
    moves = torch.randint(0, 2 * most + 1, (2, count), device=images.device)
    rows = moves[0, :, None] + torch.arange(height, device=images.device)
    columns = moves[1, :, None] + torch.arange(width, device=images.device)
    image = torch.arange(count, device=images.device)[:, None, None]
    # Indices on both sides of a slice put their own axes first.
    return padded[image, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def change_intensity(images: Tensor, share: float) -> Tensor:
    """Change the contrast of each image by a factor of 1 ± up to `share`, and its level by up to half of that.

    Each channel is changed by itself, because lamp and laser change independently.
    """
    factor = torch.empty(*images.shape[:2], 1, 1, device=images.device)
    return images * factor.uniform_(1 - share, 1 + share) + torch.empty_like(factor).uniform_(-share / 2, share / 2)


def _coin(images: Tensor) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
