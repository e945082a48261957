"""Simulate cells as an imaging flow cytometer exports them, for use where there are no real ones.

One folder a sample, one 16-bit OME-TIFF a cell and channel: `a_1d1/a_1d1_17_Ch1.ome.tif` is channel 1 (brightfield) of
cell 17 of run 1 on day 1 in medium a. Channels from 2 on are fluorescence markers that show what became of the cell.
`origin.json` marks the folder as simulated, and has the parameters.
"""

import logging
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import tifffile
from tqdm import tqdm

from fatescope.config import Simulate
from fatescope.data.folders import fresh_folder
from fatescope.errors import DataError
from pipelines.ingestion.origin import write_origin
from pipelines.simulation.cell import draw_cell
from pipelines.simulation.optics import BIT_DEPTH, Acquisition, Pixels
from pipelines.simulation.phenotypes import MARKERS, MEDIA

log = logging.getLogger(__name__)

WORKERS = 2
"""Processes that draw; their number does not change a byte."""
PIXEL_SIZE_UM = 0.5
"""With the 40x objective."""
GENERATOR = "fatescope data simulate"
"""What `origin.json` names as the source of the cells."""
SHIFTS = ("focus_shift", "noise_shift", "gain_shift")
"""Settings that plant a difference; they are named in `origin.json` where they do."""
LAMPS = (620.0, 880.0)
"""Range of the lamp level, counts; with a shortcut the media lie along it in the order of MEDIA."""

FOCUS_REACH, NOISE_REACH, GAIN_REACH = 0.8, 3.0, 0.5
"""What lies between the first and the last medium at full strength: defocus, read noise (counts), share of the gain."""


@dataclass(frozen=True)
class Group:
    """The cells of one medium, day and run, which one process draws at a time."""

    medium: str
    day: int
    run: int
    cells: int

    @property
    def sample(self) -> str:
        """The name of its folder."""
        return f"{self.medium}_{self.day}d{self.run}"


def simulate(params: Simulate, target: Path, workers: int = WORKERS) -> None:
    """Write `params.cells` simulated cells into the new folder `target`, completely or not at all.

    Raises DataError where `target` is not empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target}: already holds files, but simulated cells need an empty folder; move or delete it")
    with fresh_folder(target) as folder:
        with tqdm(total=params.cells, desc="simulate", unit="cell", delay=1) as bar:
            for drawn in _draw_all(params, folder, workers):
                bar.update(drawn)
        # Without what is planted nowhere, so that the bytes of earlier data stay.
        unused = {name for name in SHIFTS if not getattr(params, name)}
        origin = {
            "origin": "simulated",
            "generator": GENERATOR,
            "seed": params.seed,
            "params": params.model_dump(mode="json", exclude=unused),
        }
        write_origin(folder, origin)
    log.info("%d simulated cells in %s", params.cells, target)


def groups(params: Simulate) -> list[Group]:
    """Return the acquisition groups, over which `params.cells` are spread evenly, to within one cell."""
    # Media alternate fastest, so that those one cell larger are spread over the media too.
    keys = [(m, d, r) for d in dict.fromkeys(params.days) for r in range(1, params.runs + 1) for m in MEDIA]
    share, rest = divmod(params.cells, len(keys))
    return [Group(*key, share + (i < rest)) for i, key in enumerate(keys) if share + (i < rest)]


def draw_group(params: Simulate, group: Group, folder: Path) -> int:
    """Write the files of one group below `folder` and return the number of its cells."""
    settings = plant(draw_acquisition(_rng(params, group, 0), group.medium, params.shortcut), group.medium, params)
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
    """Draw the state of the instrument during one run.

    `shortcut`, 0 to 1, is how strongly lamp level and gain follow the medium.
    """
    place = _place(medium)
    lamp = (1 - shortcut) * rng.uniform(*LAMPS) + shortcut * (LAMPS[0] + place * (LAMPS[1] - LAMPS[0]))
    return Acquisition(
        lamp=lamp,
        gain=rng.uniform(0.9, 1.1) * (1 + 0.15 * shortcut * (place - 0.5)),
        focus=0.08 * rng.standard_normal(),
        noise=rng.uniform(1.5, 2.5),
        tilt=0.2 * rng.standard_normal(),
        slope=0.004 * rng.standard_normal(),
    )


def plant(run: Acquisition, medium: str, params: Simulate) -> Acquisition:
    """Return the state of the instrument with what `params` lets follow the medium beside the lamp."""
    place = _place(medium)
    return replace(
        run,
        focus=run.focus + params.focus_shift * FOCUS_REACH * (place - 0.5),
        noise=run.noise + params.noise_shift * NOISE_REACH * place,
        gain=run.gain * (1 + params.gain_shift * GAIN_REACH * (place - 0.5)),
    )


def _place(medium: str) -> float:
    """Return where a medium is, 0 to 1, in the order of MEDIA."""
    return list(MEDIA).index(medium) / (len(MEDIA) - 1)


def _draw_all(params: Simulate, folder: Path, workers: int) -> Iterator[int]:
    if workers == 1:
        yield from (draw_group(params, group, folder) for group in groups(params))
        return
    # Spawned, because a fork of a process with threads (PyTorch's, for example) can deadlock.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        jobs = [pool.submit(draw_group, params, group, folder) for group in groups(params)]
        try:
            yield from (job.result() for job in as_completed(jobs))
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def _rng(params: Simulate, group: Group, number: int) -> np.random.Generator:
    """Return the random generator of one cell, or of the run for number 0, whatever else was drawn before."""
    key = (list(MEDIA).index(group.medium), group.day, group.run, number)
    # Seed sequences refuse negative seeds.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(params.seed % 2**64, spawn_key=key)))


def _crop(rng: np.random.Generator, mean: int) -> int:
    """Draw the length of a side of the crop, px, within a quarter of the mean and independent of the cell."""
    return round(float(np.clip(rng.normal(mean, 0.1 * mean), 0.8 * mean, 1.25 * mean)))


def _write(path: Path, pixels: Pixels, channel: int) -> None:
    # Uncompressed, with our own description, so that no byte depends on the version of a library, a clock or chance.
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
