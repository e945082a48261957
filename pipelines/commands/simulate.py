"""Draw cells as an imaging flow cytometer exports them, for when there are no real ones.

One folder a sample, one 16-bit OME-TIFF a cell and channel: `a_1d1/a_1d1_17_Ch1.ome.tif` is channel 1 (brightfield) of
cell 17 of run 1 on day 1 in medium a. Channels from 2 on are fluorescence markers that show what became of the cell.
`origin.json` says that all of it was drawn, and from what.
"""

import json
import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from math import pi
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tifffile
from tqdm import tqdm

from fatescope.command import OutFolder, ParamsFile, run
from fatescope.config import Simulate, load
from fatescope.data import paths
from fatescope.data.folders import fresh_folder
from fatescope.errors import DataError
from pipelines.commands.render import BIT_DEPTH, MARKERS, Acquisition, Phenotype, Pixels, draw_cell

log = logging.getLogger(__name__)

WORKERS = 2
"""Processes that draw; how many changes no byte."""
PIXEL_SIZE_UM = 0.5
"""Of the 40x objective."""
MEDIA = {
    # astrocyte: large, rough, short blunt protrusions, coarse granules
    "a": Phenotype(8.4, 1.18, 0.06, 4.0, (), 2.8, 2.1, 0.1, 1.9, 0.20, 0.15, 0.06, (0.9, 0.05, 0.1, 0.2, 0.8)),
    # oligodendrocyte: small, round, several thin processes, a patchy rim
    "o": Phenotype(7.9, 1.08, 0.03, 5.0, (), 7.2, 0.75, 0.3, 1.4, 0.13, 0.15, 0.22, (0.1, 0.9, 0.1, 0.2, 0.8)),
    # RA/SHH: smooth, polar, one or two tapering neurites at one end, nucleus at the other
    "n": Phenotype(8.1, 1.25, 0.02, 1.3, (0.0, 0.5), 9.0, 1.7, 0.8, 1.4, 0.12, 0.45, 0.06, (0.1, 0.05, 0.9, 0.2, 0.8)),
    # NT3: two opposite neurites, finer texture
    "nt3": Phenotype(8.1, 1.28, 0.02, 2.1, (0.0, pi), 7.5, 1.4, 0.7, 1.0, 0.12, 0.1, 0.06, (0.1, 0.05, 0.8, 0.2, 0.8)),
}
"""Medium, as file names spell it → the cell it makes."""
LAMPS = (620.0, 880.0)
"""The range of the lamp level, counts; with a shortcut the media lie along it in the order of MEDIA."""


@dataclass(frozen=True)
class Group:
    """The cells of one medium, day and run: what one process draws at a time."""

    medium: str
    day: int
    run: int
    cells: int

    @property
    def sample(self) -> str:
        """The name of its folder."""
        return f"{self.medium}_{self.day}d{self.run}"


def simulate(params: Simulate, target: Path, workers: int = WORKERS) -> None:
    """Draw `params.cells` cells into the new folder `target`, all of it or nothing.

    Raises DataError where `target` holds anything already.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target}: already holds files; simulated cells go into a new folder, so move or delete it")
    with fresh_folder(target) as folder:
        with tqdm(total=params.cells, desc="simulate", unit="cell", delay=1) as bar:
            for drawn in _draw_all(params, folder, workers):
                bar.update(drawn)
        origin = {
            "origin": "simulated",
            "generator": "pipelines.commands.simulate",
            "seed": params.seed,
            "params": params.model_dump(mode="json"),
        }
        (folder / paths.ORIGIN).write_text(json.dumps(origin, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    log.info("%d simulated cells in %s", params.cells, target)


def groups(params: Simulate) -> list[Group]:
    """Return the acquisition groups, with `params.cells` spread over them to within one cell."""
    # Media alternate fastest, so that those one cell larger are spread over the media too.
    keys = [(m, d, r) for d in dict.fromkeys(params.days) for r in range(1, params.runs + 1) for m in MEDIA]
    share, rest = divmod(params.cells, len(keys))
    return [Group(*key, share + (i < rest)) for i, key in enumerate(keys) if share + (i < rest)]


def draw_group(params: Simulate, group: Group, folder: Path) -> int:
    """Write the files of one group below `folder` and return the number of its cells."""
    settings = draw_acquisition(_rng(params, group, 0), group.medium, params.shortcut)
    sample = folder / group.sample
    sample.mkdir()
    for number in range(1, group.cells + 1):
        rng = _rng(params, group, number)
        size = _crop(rng, params.height), _crop(rng, params.width)
        channels = draw_cell(rng, MEDIA[group.medium], group.day, settings, size, params.marker_channels)
        for channel, pixels in enumerate(channels, start=1):
            _write(sample / f"{group.sample}_{number}_Ch{channel}.ome.tif", pixels, channel)
    return group.cells


def draw_acquisition(rng: np.random.Generator, medium: str, shortcut: float) -> Acquisition:
    """Draw how the instrument stood during one run.

    `shortcut`, 0 to 1, is how strongly lamp level and gain follow the medium; nothing else ever does.
    """
    place = list(MEDIA).index(medium) / (len(MEDIA) - 1)
    lamp = (1 - shortcut) * rng.uniform(*LAMPS) + shortcut * (LAMPS[0] + place * (LAMPS[1] - LAMPS[0]))
    return Acquisition(
        lamp=lamp,
        gain=rng.uniform(0.9, 1.1) * (1 + 0.15 * shortcut * (place - 0.5)),
        focus=0.08 * rng.standard_normal(),
        noise=rng.uniform(1.5, 2.5),
        tilt=0.2 * rng.standard_normal(),
        slope=0.004 * rng.standard_normal(),
    )


def _draw_all(params: Simulate, folder: Path, workers: int) -> Iterator[int]:
    if workers == 1:
        yield from (draw_group(params, group, folder) for group in groups(params))
        return
    # Spawned, not forked: a fork of a process with threads (PyTorch's, a test's) can hang.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(draw_group, params, group, folder) for group in groups(params)]
        try:
            yield from (job.result() for job in as_completed(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _rng(params: Simulate, group: Group, number: int) -> np.random.Generator:
    """Return the generator of one cell, or of the run for number 0: no draw depends on who drew before."""
    # A seed sequence takes no negative seed.
    key = (list(MEDIA).index(group.medium), group.day, group.run, number)
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(params.seed % 2**64, spawn_key=key)))


def _crop(rng: np.random.Generator, mean: int) -> int:
    """Draw a side of the crop, px: within a quarter of the mean, whatever the cell."""
    return round(float(np.clip(rng.normal(mean, 0.1 * mean), 0.8 * mean, 1.25 * mean)))


def _write(path: Path, pixels: Pixels, channel: int) -> None:
    # Uncompressed, with a description of our own: nothing in it depends on a library's version, a clock or chance.
    tifffile.imwrite(
        path,
        pixels,
        byteorder="<",
        photometric="minisblack",
        ome=False,
        metadata=None,
        description=_ome_xml(pixels, "Brightfield" if channel == 1 else MARKERS[channel - 2]),
        software="fatescope.simulate",
    )


def _ome_xml(pixels: Pixels, channel: str) -> str:
    height, width = pixels.shape
    return (
        '<?xml version="1.0" encoding="UTF-8"?>'
        '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image ID="Image:0">'
        f'<Pixels ID="Pixels:0" DimensionOrder="XYCZT" Type="uint16" SignificantBits="{BIT_DEPTH}" BigEndian="false" '
        f'SizeX="{width}" SizeY="{height}" SizeC="1" SizeZ="1" SizeT="1" '
        f'PhysicalSizeX="{PIXEL_SIZE_UM}" PhysicalSizeY="{PIXEL_SIZE_UM}">'
        f'<Channel ID="Channel:0:0" Name="{channel}" SamplesPerPixel="1"/><TiffData IFD="0" PlaneCount="1"/>'
        "</Pixels></Image></OME>"
    )


def main(params: ParamsFile, target: OutFolder) -> None:
    """Draw the cells that the section simulate describes into a new folder."""
    simulate(load(params).simulate, target)


if __name__ == "__main__":
    run(main)
