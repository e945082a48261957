"""Simulate cells as an imaging flow cytometer exports them, for use where there are no real ones.

One folder a sample, one 16-bit OME-TIFF a cell and channel: `a_1d1/a_1d1_17_Ch1.ome.tif` is channel 1 (brightfield) of
cell 17 of run 1 on day 1 in medium a. Channels from 2 on are fluorescence markers that show what became of the cell;
channel 12 is darkfield (side scatter), as on instruments with two cameras.
`origin.json` marks the folder as simulated, and has the parameters.

With several images of each cell, the hours since the first are in their names: `a_1d1/a_1d1_17_t6_Ch1.ome.tif`. A cell
keeps what it is, and differentiates from image to image; the preset `followed` reads these names.

Where junk is asked for, `FOLDER_junk.csv` beside the folder, which nothing but benchmarks and tests reads, says what is
in each image: columns `cell` (path of its brightfield image in the folder), `kind` (`cell`, `doublet`, `debris`,
`focus`, `clipped`, `saturated`) and `planted` (false for doublets and blurred cells that are drawn in any case).
"""

import csv
import logging
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tifffile
from tqdm import tqdm

from fatescope import plural
from fatescope.config import Simulate
from fatescope.data.folders import fresh_folder
from fatescope.errors import DataError, ParamsError
from pipelines.ingestion.origin import write_origin
from pipelines.simulation.cell import Beside, DrawnCell, Identity, draw_cell
from pipelines.simulation.junk import Junk
from pipelines.simulation.optics import BIT_DEPTH, Acquisition, Pixels
from pipelines.simulation.phenotypes import MARKERS, MEDIA, PAPER

log = logging.getLogger(__name__)

WORKERS = 2
"""Processes that draw; their number does not change a byte."""
PIXEL_SIZE_UM = 0.5
"""With the 40x objective."""
GENERATOR = "fatescope data simulate"
"""What `origin.json` names as the source of the cells."""
SHIFTS = ("focus_shift", "noise_shift", "gain_shift", "junk")
"""Settings that plant something; they are named in `origin.json` where they do."""
DARKFIELD, SCATTER_STREAM, JUNK_STREAM = 12, 1, 2
"""Channel of the darkfield, and the streams of random numbers of each cell for the darkfield, and for junk."""
FRAME_STREAM = 3
"""The stream of random numbers of each cell for what stays in all of its images; those of an image follow it."""
FRAME_HOURS = 6
"""Between two images of a cell."""
JUNK_COLUMNS = ("cell", "kind", "planted")
LAMPS = (620.0, 880.0)
"""Range of the lamp level, counts; with a shortcut the media lie along it in the order of `simulate.media`."""

TOLERANCE, DIGITS = 1e-9, 9
"""What rounding may take from a count of cells, and digits at which fractions of a cell are equal."""
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


class Content(NamedTuple):
    """What is in one image; a row of the file beside the folder."""

    cell: str
    kind: str
    planted: bool


def simulate(params: Simulate, target: Path, workers: int = WORKERS) -> None:
    """Write `params.cells` simulated cells into the new folder `target`, completely or not at all.

    Raises DataError where `target` is not empty.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise DataError(f"{target}: already holds files, but simulated cells need an empty folder; move or delete it")
    contents: list[Content] = []
    with fresh_folder(target) as folder:
        with tqdm(total=params.cells * params.frames, desc="simulate", unit="cell", delay=1) as bar:
            for drawn in _draw_all(params, folder, workers):
                bar.update(len(drawn))
                contents += drawn
        # Without what is planted nowhere, so that the bytes of earlier data stay.
        unused = {name for name in (*SHIFTS, "darkfield") if not getattr(params, name)}
        unused |= {"media"} if list(params.media.items()) == [(medium, 1.0) for medium in PAPER] else set()
        unused |= {"frames"} if params.frames == 1 else set()
        origin = {
            "origin": "simulated",
            "generator": GENERATOR,
            "seed": params.seed,
            "params": params.model_dump(mode="json", exclude=unused),
        }
        write_origin(folder, origin)
    if params.junk:
        _write_contents(sorted(contents), junk_file(target))
    log.info("%s in %s", plural.count(params.cells, "simulated cell"), target)


def groups(params: Simulate) -> list[Group]:
    """Return the acquisition groups, over which `params.cells` are spread by the weights of the media.

    Groups of one medium are equal to within one cell. Raises ParamsError for a medium that cannot be drawn.
    """
    if unknown := sorted(set(params.media) - set(MEDIA)):
        raise ParamsError(f"simulate.media: {unknown} cannot be drawn; choose from {list(MEDIA)}")
    # Media alternate fastest, so that those one cell larger are spread over the media too.
    keys = [(m, d, r) for d in dict.fromkeys(params.days) for r in range(1, params.runs + 1) for m in params.media]
    total = sum(params.media.values()) * len(keys) / len(params.media)
    exact = [params.cells * params.media[medium] / total for medium, _, _ in keys]
    counts = [int(count + TOLERANCE) for count in exact]
    # The cells that are left go to the groups that are cut by most (largest remainder), of equal ones to the first.
    by_rest = sorted(range(len(keys)), key=lambda i: round(counts[i] - exact[i], DIGITS))
    for i in by_rest[: params.cells - sum(counts)]:
        counts[i] += 1
    return [Group(*key, count) for key, count in zip(keys, counts, strict=True) if count]


def junk_file(target: Path) -> Path:
    """Return the path of the file that says what is in each image of the folder `target`."""
    return target.with_name(f"{target.name}_junk.csv")


def _write_contents(contents: list[Content], path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerows([JUNK_COLUMNS, *contents])


def draw_group(params: Simulate, group: Group, folder: Path) -> list[Content]:
    """Write the files of one group below `folder` and return what is in them."""
    sample = folder / group.sample
    sample.mkdir()
    names = {1: "Brightfield"} | dict(enumerate(MARKERS[: params.marker_channels], start=2))
    names |= {DARKFIELD: "Darkfield"} if params.darkfield else {}
    contents = []
    for place, drawn in enumerate(draw_cells(params, group)):
        number, frame = place // params.frames + 1, place % params.frames
        cell = f"{group.sample}_{number}" + (f"_t{frame * FRAME_HOURS}" if params.frames > 1 else "")
        for (channel, name), pixels in zip(names.items(), drawn.channels, strict=True):
            _write(sample / f"{cell}_Ch{channel}.ome.tif", pixels, name)
        contents.append(Content(f"{group.sample}/{cell}_Ch1.ome.tif", drawn.kind, drawn.planted))
    return contents


def draw_cells(
    params: Simulate, group: Group, change: Callable[[Acquisition], Acquisition] = lambda run: run
) -> Iterator[DrawnCell]:
    """Yield the cells of one group in the order of their numbers, which begin with 1; of each, its images in time.

    `change` returns the instrument that takes them in place of that of their run; the cells are the same.
    """
    place = _place(params, group.medium)
    settings = change(plant(draw_acquisition(_rng(params, group, 0), place, params.shortcut), place, params))
    if params.frames > 1:
        yield from _follow_cells(params, group, settings)
        return
    for number in range(1, group.cells + 1):
        rng = _rng(params, group, number)
        size = _crop(rng, params.height), _crop(rng, params.width)
        scatter = _rng(params, group, number, SCATTER_STREAM) if params.darkfield else None
        junk = Junk.draw(_rng(params, group, number, JUNK_STREAM), params.junk)
        beside = Beside(scatter, junk)
        yield draw_cell(rng, MEDIA[group.medium], group.day, settings, size, params.marker_channels, beside)


def _follow_cells(params: Simulate, group: Group, settings: Acquisition) -> Iterator[DrawnCell]:
    """Yield the images of each cell in time, its class growing clearer, what it is otherwise staying the same."""
    for number in range(1, group.cells + 1):
        identity = Identity.draw(_rng(params, group, number, FRAME_STREAM))
        for frame in range(params.frames):
            stream = FRAME_STREAM, frame
            rng = _rng(params, group, number, *stream)
            size = _crop(rng, params.height), _crop(rng, params.width)
            scatter = _rng(params, group, number, *stream, SCATTER_STREAM) if params.darkfield else None
            junk = Junk.draw(_rng(params, group, number, *stream, JUNK_STREAM), params.junk)
            day = group.day + frame * FRAME_HOURS / 24
            beside = Beside(scatter, junk, identity)
            yield draw_cell(rng, MEDIA[group.medium], day, settings, size, params.marker_channels, beside)


def draw_acquisition(rng: np.random.Generator, place: float, shortcut: float) -> Acquisition:
    """Draw the state of the instrument during one run.

    `shortcut`, 0 to 1, is how strongly lamp level and gain follow the medium, which is at `place`, 0 to 1.
    """
    lamp = (1 - shortcut) * rng.uniform(*LAMPS) + shortcut * (LAMPS[0] + place * (LAMPS[1] - LAMPS[0]))
    return Acquisition(
        lamp=lamp,
        gain=rng.uniform(0.9, 1.1) * (1 + 0.15 * shortcut * (place - 0.5)),
        focus=0.08 * rng.standard_normal(),
        noise=rng.uniform(1.5, 2.5),
        tilt=0.2 * rng.standard_normal(),
        slope=0.004 * rng.standard_normal(),
        laser=float(np.exp(0.12 * rng.standard_normal())),
    )


def plant(run: Acquisition, place: float, params: Simulate) -> Acquisition:
    """Return the state of the instrument with what `params` lets follow the medium, at `place`, beside the lamp."""
    return replace(
        run,
        focus=run.focus + params.focus_shift * FOCUS_REACH * (place - 0.5),
        noise=run.noise + params.noise_shift * NOISE_REACH * place,
        gain=run.gain * (1 + params.gain_shift * GAIN_REACH * (place - 0.5)),
    )


def _place(params: Simulate, medium: str) -> float:
    """Return where a medium is, 0 to 1, in the order of those that are drawn."""
    return list(params.media).index(medium) / max(1, len(params.media) - 1)


def _draw_all(params: Simulate, folder: Path, workers: int) -> Iterator[list[Content]]:
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


def _rng(params: Simulate, group: Group, number: int, *stream: int) -> np.random.Generator:
    """Return the random generator of one cell, or of the run for number 0, whatever else was drawn before."""
    key = (list(MEDIA).index(group.medium), group.day, group.run, number, *stream)
    # Seed sequences refuse negative seeds.
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(params.seed % 2**64, spawn_key=key)))


def _crop(rng: np.random.Generator, mean: int) -> int:
    """Draw the length of a side of the crop, px, within a quarter of the mean and independent of the cell."""
    return round(float(np.clip(rng.normal(mean, 0.1 * mean), 0.8 * mean, 1.25 * mean)))


def _write(path: Path, pixels: Pixels, channel: str) -> None:
    # Uncompressed, with our own description, so that no byte depends on the version of a library, a clock or chance.
    tifffile.imwrite(
        path,
        pixels,
        byteorder="<",
        photometric="minisblack",
        ome=False,
        metadata=None,
        description=_ome_xml(pixels, channel),
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
