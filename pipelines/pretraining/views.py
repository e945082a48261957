"""Random views of a batch of images, between which a backbone is taught to see no difference.

What two views of a cell share is what the backbone learns; so everything that the acquisition decides, and the cell
does not, differs between them: position, orientation, magnification, focus, gain, level, an uneven lamp and noise. All
functions take a whole batch on its device and draw for every cell anew. Images are normalised: background is zero.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from fatescope.config import Pretrain
from pipelines.training.augmentation import random_symmetry


def random_view(images: Tensor, params: Pretrain, stretched: bool) -> Tensor:
    """Return a view of each of (B, C, H, W) normalised images, changed as far as `params` say.

    Images that were `stretched`, more along one axis than along the other, are mirrored but not rotated.
    """
    images = move(random_symmetry(images, quarter=not stretched), params.scale, params.shift, turned=not stretched)
    if params.focus:
        images = blur(images, params.focus)
    spread = images.std((2, 3), keepdim=True)
    images = light(images, spread, params.intensity)
    if params.noise:
        sigma = spread * params.noise * torch.rand(len(images), 1, 1, 1, device=images.device)
        images = images + sigma * torch.randn_like(images)
    return images.contiguous(memory_format=torch.channels_last)


def move(images: Tensor, scale: float, shift: int, turned: bool) -> Tensor:
    """Magnify each image by up to 1 + `scale` or as much less, move it by up to `shift` px, and turn it by any angle.

    What comes in from outside is background. With magnification and shift together this is a random resized crop.
    """
    count, _, height, width = images.shape
    zoom = torch.exp(math.log1p(scale) * (2 * torch.rand(count, device=images.device) - 1))
    angle = math.pi * (2 * torch.rand(count, device=images.device) - 1) * turned
    offsets = shift * (2 * torch.rand(count, 2, device=images.device) - 1)
    cosine, sine = angle.cos() / zoom, angle.sin() / zoom
    # Coordinates run from -1 to 1 along both axes, of whatever length: rotation keeps shapes by the ratio of the sides.
    ratio = height / width
    rows = [
        torch.stack([cosine, -sine * ratio, offsets[:, 0] * 2 / width], 1),
        torch.stack([sine / ratio, cosine, offsets[:, 1] * 2 / height], 1),
    ]
    grid = functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def blur(images: Tensor, focus: float) -> Tensor:
    """Blur each image by a Gaussian with a standard deviation of up to `focus` px; half of them stay as they are."""
    height, width = images.shape[2:]
    sigma = focus * torch.rand(len(images), 1, 1, 1, device=images.device).mul(2).sub(1).clamp_min(0)
    down = torch.fft.fftfreq(height, device=images.device)[:, None]
    across = torch.fft.rfftfreq(width, device=images.device)
    # The transfer function of the Gaussian; edges meet in background.
    transfer = torch.exp(-2 * (math.pi * sigma) ** 2 * (down**2 + across**2))
    blurred: Tensor = torch.fft.irfft2(torch.fft.rfft2(images.float()) * transfer, s=(height, width))
    return blurred


def light(images: Tensor, spread: Tensor, intensity: float) -> Tensor:
    """Change gain, level and evenness of the illumination of each channel, by up to `intensity`.

    The gain changes by that share; the level, and the slope across the image in a random direction, by up to half of
    that in units of the `spread` (B, C, 1, 1) of the image.
    """
    height, width = images.shape[2:]
    draws = intensity * (2 * torch.rand(4, *images.shape[:2], 1, 1, device=images.device) - 1)
    gain, level, slope_down, slope_across = draws.unbind()
    down = torch.linspace(-1, 1, height, device=images.device)[:, None]
    across = torch.linspace(-1, 1, width, device=images.device)
    return images * (1 + gain) + spread / 2 * (level + slope_down * down + slope_across * across)
