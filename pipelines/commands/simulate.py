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
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import tifffile
from tqdm import tqdm

from fatescope import plural
from fatescope.config import Simulate
from fatescope.data.folders import fresh_folder
from fatescope.errors import DataError
from pipelines.ingestion.origin import write_origin
from pipelines.simulation.acquisition_groups import FRAME_HOURS, Group, draw_cells, groups
from pipelines.simulation.optics import BIT_DEPTH, Pixels
from pipelines.simulation.phenotypes import MARKERS, PAPER

log = logging.getLogger(__name__)

WORKERS = 2
"""Processes that draw; their number does not change a byte."""
PIXEL_SIZE_UM = 0.5
"""With the 40x objective."""
GENERATOR = "fatescope data simulate"
"""What `origin.json` names as the source of the cells."""
SHIFTS = ("focus_shift", "noise_shift", "gain_shift", "junk")
"""Settings that plant something; they are named in `origin.json` where they do."""
DARKFIELD = 12
"""Channel of the darkfield."""
JUNK_COLUMNS = ("cell", "kind", "planted")


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
