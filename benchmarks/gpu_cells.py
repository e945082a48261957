"""Seeded cells for `benchmarks.gpu`, in memory and as files, without what a bare machine lacks."""

import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from fatescope.data.crops import center
from pipelines.simulation.cell import Beside, draw_cell
from pipelines.simulation.optics import Acquisition
from pipelines.simulation.phenotypes import MEDIA, PAPER
from pipelines.training.examples import Examples

CANVAS, SIZE = (60, 80), (45, 60)
"""Of the store, and of a cell; px."""
CHUNK = 250
"""Cells that a process draws at a time."""
NOISE = 4.0
"""Counts by which cells that are drawn once and used several times differ."""
RUN = Acquisition(lamp=740.0, gain=1.0, focus=0.2, noise=2.0, tilt=0.1, slope=0.02)

Pixels = npt.NDArray[np.uint16]


def _draw_chunk(seed: int, chunk: int, count: int) -> Pixels:
    """Draw `count` cells, of the media of the paper in turn."""
    rng, kinds = np.random.default_rng([seed, chunk]), [MEDIA[medium] for medium in PAPER]
    drawn = [draw_cell(rng, kinds[i % len(kinds)], 3, RUN, SIZE, 0, Beside()).channels[0] for i in range(count)]
    return np.stack([center(cell, CANVAS, "cell") for cell in drawn])


def draw(distinct: int, cells: int, seed: int) -> tuple[Pixels, npt.NDArray[np.int64]]:
    """Return (cells, *CANVAS) pixels and their classes: so many `distinct` cells, again and again under new noise."""
    sizes = [min(CHUNK, distinct - start) for start in range(0, distinct, CHUNK)]
    if len(sizes) == 1:
        parts = [_draw_chunk(seed, 0, sizes[0])]
    else:
        with ProcessPoolExecutor(len(os.sched_getaffinity(0)), get_context("spawn")) as pool:
            parts = list(pool.map(_draw_chunk, [seed] * len(sizes), range(len(sizes)), sizes))
    once = np.concatenate(parts)
    targets = np.concatenate([np.arange(size) % len(PAPER) for size in sizes])
    rng, pixels = np.random.default_rng(seed), np.empty((cells, *CANVAS), np.uint16)
    rows = np.arange(cells) % distinct
    for start in range(0, cells, 5_000):
        chosen = once[rows[start : start + 5_000]].astype(np.float32)
        noisy = chosen + NOISE * rng.standard_normal(chosen.shape, np.float32)
        pixels[start : start + 5_000] = noisy.clip(0, 65_535)
    return pixels, targets[rows].astype(np.int64)


def split(pixels: Pixels, targets: npt.NDArray[np.int64], cells: int | None = None) -> Examples:
    """Return the first `cells`, nine tenths of them to train on and the rest for validation."""
    rows = np.arange(cells or len(pixels))
    train = len(rows) * 9 // 10
    return Examples(pixels, targets, rows[:train], rows[train:])


def write_pngs(folder: Path, examples: Examples) -> None:
    """Write the training cells as 8-bit PNGs, one folder a class."""
    white = float(examples.pixels[examples.train[::10]].max())
    for row in examples.train:
        path = folder / str(examples.targets[row]) / f"{row}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((examples.pixels[row] / white * 255).astype(np.uint8)).save(path)


def write_tiffs(folder: Path, pixels: Pixels, count: int) -> list[Path]:
    """Write `count` cells as an export of 16-bit TIFFs, 1,000 in a folder, and return their paths."""
    top, left = ((outer - inner) // 2 for outer, inner in zip(CANVAS, SIZE, strict=True))
    paths = []
    for i in range(count):
        path = folder / f"a_1d{i // 1000}" / f"a_1d{i // 1000}_{i}_Ch1.ome.tif"
        path.parent.mkdir(parents=True, exist_ok=True)
        cell = pixels[i % len(pixels), top : top + SIZE[0], left : left + SIZE[1]]
        Image.fromarray(np.ascontiguousarray(cell)).save(path, format="TIFF")
        paths.append(path)
    return paths
