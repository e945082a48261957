"""What images tell of the instrument that also sits on the cell: noise, gain, focus and the halo.

One cell says little of these, and something of its own biology; the median over the cells of an acquisition group says
much of the instrument. `pipelines.evaluation.group_audit` compares such medians.

- `noise`: spectrum of the noise away from the cell, the logarithm of its power in three octaves of frequency
- `gain`: logarithm of the variance of the background over its mean
- `focus`: how fast the power of the crop falls with spatial frequency. Beyond FREQUENCIES[0], lens and focus decide
  this more than the cell does, but the cell is not without influence.
- `halo`: mean deviation from the background by distance from the edge of the cell, in units of the cell's contrast.
  Processes and granules of a cell change it as much as focus does.
"""

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_fill_holes, convolve1d, distance_transform_edt, gaussian_filter

from fatescope.data.crops import border
from pipelines.evaluation.confounding import outside

Floats = npt.NDArray[np.floating]
Mask = npt.NDArray[np.bool_]

NOISE, GAIN, FOCUS, HALO = "noise", "gain", "focus", "halo"
DESCRIPTIONS = (NOISE, GAIN, FOCUS, HALO)
FREQUENCIES = np.linspace(0.18, 0.46, 8)
"""Ends of the bands of `focus`, cycles per px."""
OCTAVES = 3
HALO_PX = 6
"""How far from the edge of a cell its halo is described."""
_CELL_SHARE = 0.35
"""Pixels that deviate by this share of the contrast, after a blur, belong to the cell; its halo deviates less."""
_MIN_SIDE = 64
"""Smaller crops are padded to this, px, so that there are frequencies in each band."""
_TINY = 1e-9


def describe(crop: Floats) -> dict[str, Floats]:
    """Return each of DESCRIPTIONS of one native (H, W) crop, as a vector.

    `gain` has no meaning where zero is not the absence of light, as after normalisation.
    """
    level = float(np.median(border(crop)))
    powers = _noise_powers(crop.astype(float), outside(crop, level))
    return {
        NOISE: np.log(powers + _TINY),
        GAIN: np.log((powers[:1] + _TINY) / max(level, _TINY)),
        FOCUS: np.diff(np.log(_spectrum(crop - level) + _TINY)),
        HALO: _halo(crop - level),
    }


def _noise_powers(crop: Floats, away: Mask) -> Floats:
    """Return the (OCTAVES,) power of the noise in the pixels `away` (H, W) from the cell, fine to coarse.

    The median, because halos reach far.
    """
    powers, finer = [], crop
    for octave in range(OCTAVES):
        kernel = np.zeros(2 ** (octave + 1) + 1)
        kernel[[0, 2**octave, -1]] = 0.25, 0.5, 0.25
        coarser = convolve1d(convolve1d(finer, kernel, 0), kernel, 1)
        powers.append(np.median((finer - coarser)[away] ** 2))
        finer = coarser
    return np.array(powers)


def _spectrum(deviation: Floats) -> Floats:
    """Return the (len(FREQUENCIES) - 1,) mean power of each band."""
    height, width = deviation.shape
    window = np.hanning(height)[:, None] * np.hanning(width)[None, :]
    padded = max(height, _MIN_SIDE), max(width, _MIN_SIDE)
    power = np.abs(np.fft.rfft2(deviation * window, padded)).ravel() ** 2
    band, counts = _bands(padded)
    sums = np.bincount(band, power, len(FREQUENCIES) + 1)
    return np.asarray(sums[1:-1] / counts[1:-1])


@lru_cache(256)
def _bands(shape: tuple[int, int]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    frequency = np.hypot(np.fft.fftfreq(shape[0])[:, None], np.fft.rfftfreq(shape[1])[None, :])
    band = np.digitize(frequency, FREQUENCIES).ravel()
    return band, np.bincount(band, minlength=len(FREQUENCIES) + 1)


def _halo(deviation: Floats) -> Floats:
    """Return the (HALO_PX,) mean deviation at each distance from the edge."""
    size = np.abs(deviation)
    contrast = max(float((deviation**2).sum() / max(size.sum(), _TINY)), _TINY)
    cell = binary_fill_holes(np.abs(gaussian_filter(deviation.astype(float), 1.0)) > _CELL_SHARE * contrast)
    if not cell.any():
        return np.zeros(HALO_PX)
    ring = np.minimum(np.ceil(distance_transform_edt(~cell)).astype(int), HALO_PX + 1).ravel()
    sums, counts = (np.bincount(ring, values, HALO_PX + 2) for values in (deviation.ravel(), None))
    return np.asarray(sums[1:-1] / np.maximum(counts[1:-1], 1) / contrast)
