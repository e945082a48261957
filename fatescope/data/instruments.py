"""Raw and analysis files of cytometers where an image is expected: what they are, and what to do instead."""

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath

from fatescope.data.formats import tiff_directory as tags

_EXPORT = "export one TIFF per cell and channel"
RAW_AMNIS = (
    "a raw file of an Amnis instrument (.rif or .cif) of many cells, where an image of one was expected; import it, "
    f"score it or send it to /classify_batch under its own ending, or in IDEAS, {_EXPORT}"
)
_ANALYSIS = f"an analysis file of IDEAS (.daf), which holds no pixels; give the .cif beside it, or in IDEAS, {_EXPORT}"
_MEASUREMENTS = (
    f"an FCS file, which holds measurements of cells and no images; in IDEAS or your instrument's software, {_EXPORT}"
)
_BY_EXTENSION = {".cif": RAW_AMNIS, ".rif": RAW_AMNIS, ".daf": _ANALYSIS, ".fcs": _MEASUREMENTS}
NATIVE = (".cif", ".rif")
"""Endings of raw files that are read, see `fatescope.data.native`."""
_FCS = re.compile(rb"FCS\d\.\d")
_DAF = re.compile(rb"(?:\xef\xbb\xbf)?\s*(?:<\?xml[^>]{0,200}>\s*)?<Assay\b")
HEAD = 100_000
"""Bytes of a file that tell what it is."""
_COMPRESSIONS = (30817, 30818)
"""Of the images and masks of Amnis instruments."""


def explain(name: str, raw: bytes = b"") -> str | None:
    """Return what a file is, and what to do about it, by the first bytes of its content or else its name.

    None for what is no raw or analysis file of an instrument.
    """
    if _FCS.match(raw):
        return _MEASUREMENTS
    if _DAF.match(raw):
        return _ANALYSIS
    if _starts_like_amnis(raw):
        return RAW_AMNIS
    return _BY_EXTENSION.get(PurePosixPath(name).suffix.lower())


def explain_file(path: Path) -> str | None:
    """Return what `explain` says of a file on disk; None for what is no file."""
    if not path.is_file():
        return None
    with path.open("rb") as file:
        return explain(path.name, file.read(HEAD))


def is_native(name: str, head: bytes) -> bool:
    """Return whether a file is a .cif or .rif: by its first HEAD bytes, or by its name where they are no image."""
    first = _first_directory(head)
    return PurePosixPath(name).suffix.lower() in NATIVE if first is None else is_amnis(first.numbers)


def is_amnis(numbers: Mapping[int, int]) -> bool:
    """Return whether a directory of a TIFF is of a raw file: the tags that exported images carry too do not count."""
    return tags.AMNIS_OBJECTS in numbers or numbers.get(tags.COMPRESSION) in _COMPRESSIONS


def _starts_like_amnis(raw: bytes) -> bool:
    first = _first_directory(raw)
    return first is not None and is_amnis(first.numbers)


def _first_directory(raw: bytes) -> tags.Directory | None:
    """Return the first directory of a TIFF; None where there is none that can be read."""
    layout = tags.layout_of(raw)
    try:
        return next(tags.read_chain(raw, layout)) if layout else None
    except (*tags.DAMAGES, StopIteration):
        return None
