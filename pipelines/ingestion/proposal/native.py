"""What native files of instruments (.cif, .rif) say: channels, sizes, and which populations people made by hand."""

from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from fatescope.data.native.analysis import SUFFIX, read_analysis
from fatescope.data.native.objects import NativeObject
from fatescope.data.native.reader import BIT_DEPTH, NativeFile
from fatescope.errors import DataError, ImageError
from pipelines.ingestion.proposal.exports import Export
from pipelines.ingestion.proposal.pixels import ChannelLook, Sizes

OBJECTS = 300
"""Objects of a file that are looked at."""
_LOOKED_AT = 40
"""Files that are looked into for sizes."""


@dataclass
class NativeLook:
    """What native files say."""

    lit: Counter[str] = field(default_factory=Counter)
    """Channel that a brightfield lamp lit → files."""
    used: Counter[str] = field(default_factory=Counter)
    """Channel in use → files."""
    names: dict[str, str] = field(default_factory=dict)
    """Channel → what people called it in an analysis."""
    objects: int = 0
    populations: Counter[str] = field(default_factory=Counter)
    """Population by hand → objects."""
    problems: list[str] = field(default_factory=list)
    sizes: Sizes = field(default_factory=lambda: Sizes(complete=False))
    look: ChannelLook = field(default_factory=ChannelLook)


def look_into(export: Export, channel: str | None, max_pixels: int) -> NativeLook:
    """Return what the native files of an export say; sizes are those of the `channel`, else of the one with a lamp."""
    export.fetch_natives()
    look = NativeLook()
    for number, path in enumerate(export.natives):
        try:
            with (export.folder / path).open("rb") as raw:
                file = NativeFile(raw, path)
                acquisition = file.acquisition
                look.lit.update(str(lit) for lit in acquisition.brightfield)
                look.used.update(map(str, acquisition.channels))
                look.objects += acquisition.objects or 0
                if number < _LOOKED_AT:
                    _read_objects(file, file.choose_channel(channel), max_pixels, look)
        except ImageError as error:
            look.problems.append(str(error))
        except OSError as error:
            look.problems.append(f"{path}: cannot be read: {error.strerror}")
    _read_populations(export, look)
    return look


def _read_objects(file: NativeFile, channel: int, max_pixels: int, look: NativeLook) -> None:
    for place in islice(file.places(), OBJECTS):
        cell = file.read(place, [channel], max_pixels)
        look.sizes.looked_at += 1
        if isinstance(cell, NativeObject):
            look.sizes.add(cell.facts.height, cell.facts.width, BIT_DEPTH)
            look.look.crops += [(cell.images[0], BIT_DEPTH)][: max(0, OBJECTS - len(look.look.crops))]
        else:
            look.sizes.refused.append(cell)


def _read_populations(export: Export, look: NativeLook) -> None:
    beside = {path.lower() for path in export.natives}
    for path in (path for path in export.paths if path.lower().endswith(SUFFIX)):
        try:
            with (export.folder / path).open("rb") as raw:
                analysis = read_analysis(raw, path)
        except (DataError, OSError) as error:
            look.problems.append(str(error))
            continue
        folder = Path(path).parent
        if (folder / analysis.cif).as_posix().lower() in beside:
            look.names |= {str(channel): name for channel, name in analysis.channels.items() if name}
            look.populations.update({population.name: len(population) for population in analysis.populations})
