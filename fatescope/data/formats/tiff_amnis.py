"""What an image that IDEAS exported says of the acquisition of its object, in tags of the instrument's own files."""

import math
import re
import struct

from fatescope.data.formats import tiff_directory as tags
from fatescope.data.formats.facts import ExportedFacts
from fatescope.data.formats.tiff_directory import Directory

_RAW_FILE = re.compile(rb"([^\\/\"'<>|=\r\n\0]{1,200})\.rif\b", re.IGNORECASE)
"""Its name alone: the folders of its path name people."""


def read_facts(directory: Directory, raw: bytes) -> ExportedFacts | None:
    """Return what a directory says of the acquisition, None where it has no such tag."""
    numbers = directory.numbers
    if not tags.AMNIS_FACTS.intersection(numbers):
        return None
    match = next(filter(None, map(_RAW_FILE.search, directory.descriptions)), None)
    return ExportedFacts(
        run=match[1].decode(errors="replace").strip() if match else "",
        object=numbers.get(tags.AMNIS_OBJECT),
        acquired_object=numbers.get(tags.AMNIS_ACQUIRED),
        camera_line=numbers.get(tags.AMNIS_LINE),
        camera_timer=numbers.get(tags.AMNIS_TIMER),
        flow_speed=_decimal(directory, raw, tags.AMNIS_FLOW_SPEED),
    )


def _decimal(directory: Directory, raw: bytes, tag: int) -> float | None:
    """Return the first value of a tag that is a double; None where there is none in the file."""
    entry = directory.entries.get(tag)
    if entry is None or entry.kind != tags.DOUBLE or not entry.total or entry.start + 8 > len(raw):
        return None
    (value,) = struct.unpack_from(f"{directory.layout.order}d", raw, entry.start)
    return float(value) if math.isfinite(value) else None
