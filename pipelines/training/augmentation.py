"""Change a batch of images as cells change by themselves: a cell in flow has no up and no left.

Everything is done to a whole batch on its device, each image by its own draw, after normalisation: background is zero.
"""

import torch
from torch import Tensor
from torch.nn import functional

from fatescope.config import Train


def augment(images: Tensor, params: Train, stretched: bool) -> Tensor:
    """Return (B, 1, H, W) normalised images, mirrored and turned, shifted, and changed in intensity as `params` say.

    Images that were `stretched`, by more along one axis than along the other, are mirrored and not turned.
    """
    if params.symmetries:
        images = random_symmetry(images, quarter=not stretched)
    if params.max_shift:
        images = shift(images, params.max_shift)
    if params.intensity:
        images = change_intensity(images, params.intensity)
    return images.contiguous(memory_format=torch.channels_last)


def random_symmetry(images: Tensor, quarter: bool = True) -> Tensor:
    """Give each image one of the eight symmetries of the square; of the four of the rectangle where it is one.

    Without `quarter` turns a square gets those four too: what was stretched along one axis only is a rectangle.
    """
    images = torch.where(_coin(images), images.flip(2), images)
    images = torch.where(_coin(images), images.flip(3), images)
    if quarter and images.shape[2] == images.shape[3]:
        images = torch.where(_coin(images), images.transpose(2, 3), images)
    return images


def shift(images: Tensor, farthest: int) -> Tensor:
    """Move each image by up to `farthest` px along each axis; background comes in from outside."""
    count, _, height, width = images.shape
    padded = functional.pad(images, (farthest,) * 4)
    moves = torch.randint(0, 2 * farthest + 1, (2, count), device=images.device)
    rows = moves[0, :, None] + torch.arange(height, device=images.device)
    columns = moves[1, :, None] + torch.arange(width, device=images.device)
    each = torch.arange(count, device=images.device)[:, None, None]
    return padded[each, 0, rows[:, :, None], columns[:, None, :]][:, None]


def change_intensity(images: Tensor, share: float) -> Tensor:
    """Scale the contrast of each image by up to `share`, and lift or lower it by up to half of that."""
    factor = torch.empty(len(images), 1, 1, 1, device=images.device)
    return images * factor.uniform_(1 - share, 1 + share) + torch.empty_like(factor).uniform_(-share / 2, share / 2)


def _coin(images: Tensor) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, device=images.device) < 0.5
