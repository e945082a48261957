"""Random changes of the instrument: what another microscope, lamp, focus or camera would make of the same cells.

Networks learn the instrument along with the cell, and err where another one is used (domain randomisation, Tobin et
al. 2017). Changes are made to raw pixels, in the order in which light takes its way: pixel size and focus by the
optics, illumination by the lamp, noise by the camera. Preprocessing comes after them and sees what it would see in
production: it removes the level of the lamp, but neither a gradient nor noise, and its estimates of background and
contrast suffer from both. All strengths are relative to the brightness of each image, so that they suit cameras of
any bit depth. What they cost and give, on several sets of cells: `docs/explanation/few-labels.md`.

All functions take a whole (B, C, H, W) batch on its device, with the cell centred on its canvas, and draw for every
cell anew; they wait for no result, so that a CUDA graph can hold them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from fatescope.config.names import DARKFIELD, ChannelKind
from fatescope.networks.preprocessing import border_median, estimate_contrast

CHANGED = 0.5
"""Share of cells that are changed; the others keep the accuracy on cells of the laboratory's own instrument."""
LAMP = 1.3
"""Largest factor between the levels of the lamp, or of the laser, upwards and downwards."""
GRADIENT = 0.08
"""Largest change of the illumination from the middle of the canvas to each edge, as a share of its level: much, because
no other change harms the network of simulated cells more, and training with it alone cost nothing on like cells."""


@dataclass(frozen=True)
class Strength:
    """How far the other instruments differ in what may tell classes apart too: the size of a cell and its detail."""

    magnification: float
    """Largest factor between the pixel sizes, upwards and downwards."""
    sharpest: float
    """Least change of focus: the share of what a blur takes away that is taken, or added where it is negative."""
    blurriest: float
    """Largest change of focus."""
    noise: float
    """Largest standard deviation of read noise, and of shot noise, as a share of the brightness of the image."""


STRENGTHS = {
    # Chosen on validation cells of the simulation, where they cost nothing; on new runs they cost 0.026. Both noises
    # together are that of the simulated camera; twice as much gave more under noise, and cost too much.
    "randomise": Strength(1.03, -0.1, 0.25, 0.005),
    "randomise_strongly": Strength(1.25, -0.5, 1.0, 0.02),
}
"""By `train.domain`."""
_HALF = 0.5
_BLUR = (1 / 16, 4 / 16, 6 / 16, 4 / 16, 1 / 16)
"""A binomial kernel, with a standard deviation of 1 px."""


def randomise(pixels: Tensor, kinds: Sequence[ChannelKind], strength: Strength) -> Tensor:
    """Return (B, C, H, W) raw pixels of channels of these `kinds` as other instruments would have taken them."""
    # A fixed number of them, because the others then cost nothing.
    chosen = torch.rand(len(pixels), device=pixels.device).argsort()[: max(1, round(CHANGED * len(pixels)))]
    return pixels.index_copy(0, chosen, change_instrument(pixels[chosen], kinds, strength))


def change_instrument(pixels: Tensor, kinds: Sequence[ChannelKind], strength: Strength) -> Tensor:
    """Change all of the images."""
    level, inside = border_median(pixels), find_crops(pixels)
    # The crop grows and shrinks with the cell.
    scaled = change_pixel_size(torch.cat([pixels - level, inside], dim=1), strength)
    deviation, inside = change_focus(scaled[:, :-1], strength), (scaled[:, -1:] > _HALF).float()
    # The contrast too, because the background may be black.
    brightness = level + estimate_contrast(deviation)
    return add_noise(change_illumination(deviation, level, inside, kinds), inside, brightness, strength)


def find_crops(pixels: Tensor) -> Tensor:
    """Return where the canvas is not padding, as 1 and 0 (B, 1, H, W): padding has neither a gradient nor noise."""
    varies = (pixels.amax(axis, keepdim=True) > pixels.amin(axis, keepdim=True) for axis in (2, 3))
    columns, rows = (of_channels.any(1, keepdim=True) for of_channels in varies)
    return (rows & columns).float()


def change_pixel_size(deviation: Tensor, strength: Strength) -> Tensor:
    """Magnify or reduce each cell around the middle; `deviation` is that from the background, which fills gaps."""
    scale = _log_uniform(len(deviation), strength.magnification, deviation)
    rows, columns = (torch.linspace(-1, 1, side, device=deviation.device) for side in deviation.shape[2:])
    grid = torch.stack(torch.meshgrid(columns, rows, indexing="xy"), dim=-1)
    return functional.grid_sample(deviation, grid * scale[:, None, None, None], align_corners=True)


def change_focus(deviation: Tensor, strength: Strength) -> Tensor:
    """Blur or sharpen each image, its channels alike: one lens takes them."""
    little = _blur(deviation)
    share = _uniform(len(deviation), 0, 1, deviation)
    blurred = share * little + (1 - share) * _blur(little)
    taken = _uniform(len(deviation), strength.sharpest, strength.blurriest, deviation)
    return deviation - taken * (deviation - blurred)


def change_illumination(deviation: Tensor, level: Tensor, inside: Tensor, kinds: Sequence[ChannelKind]) -> Tensor:
    """Return pixels under another lamp, with a gradient `inside` the crop, each channel under its own.

    The lamp multiplies background and cell in brightfield. In darkfield the laser multiplies what the cell scatters;
    the (B, C, 1, 1) `level` of the background is that of the camera, and stays.
    """
    count, channels, height, width = deviation.shape
    down, right = (_uniform((count, channels), -GRADIENT, GRADIENT, deviation) for _ in range(2))
    rows = torch.linspace(-1, 1, height, device=deviation.device)[:, None]
    columns = torch.linspace(-1, 1, width, device=deviation.device)
    lamp = _log_uniform((count, channels), LAMP, deviation)[..., None, None]
    field = lamp * (1 + inside * (down * rows + right * columns))
    levels = [level[:, i : i + 1] * (1 if kinds[i] == DARKFIELD else field[:, i : i + 1]) for i in range(channels)]
    return deviation * field + torch.cat([of_one.expand(-1, -1, height, width) for of_one in levels], dim=1)


def add_noise(pixels: Tensor, inside: Tensor, brightness: Tensor, strength: Strength) -> Tensor:
    """Add read noise `inside` the crop, and shot noise, whose variance grows with the counts.

    Their unit is the (B, C, 1, 1) `brightness`.
    """
    count, channels = pixels.shape[:2]
    read, shot = (_uniform((count, channels), 0, strength.noise, pixels) for _ in range(2))
    variance = read**2 + shot**2 * (pixels / brightness.clamp_min(1e-6)).clamp_min(0)
    return (pixels + inside * brightness * variance.sqrt() * torch.randn_like(pixels)).clamp_min(0)


def _blur(images: Tensor) -> Tensor:
    # By slices: a kernel would be copied to the device, which no CUDA graph can hold.
    (height, width), reach = images.shape[2:], len(_BLUR) // 2
    padded = functional.pad(images, (reach,) * 4)
    nothing = images.new_zeros(())
    down = sum((share * padded[:, :, i : i + height] for i, share in enumerate(_BLUR)), nothing)
    return sum((share * down[..., i : i + width] for i, share in enumerate(_BLUR)), nothing)


def _uniform(shape: int | tuple[int, int], low: float, high: float, like: Tensor) -> Tensor:
    """Return numbers for each image, or for each of its channels, as (B, 1, 1, 1) or (B, C, 1, 1)."""
    sizes = (shape, 1) if isinstance(shape, int) else shape
    return torch.empty(*sizes, 1, 1, device=like.device).uniform_(low, high)


def _log_uniform(shape: int | tuple[int, int], most: float, like: Tensor) -> Tensor:
    """Return factors from 1 / `most` to `most`, for each image (B,) or each of its channels (B, C)."""
    sizes = (shape,) if isinstance(shape, int) else shape
    return most ** torch.empty(*sizes, device=like.device).uniform_(-1, 1)
