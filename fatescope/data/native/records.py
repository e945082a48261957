"""Where the objects of a .cif are, as the binary part of an analysis file (.daf) says.

Three bytes behind the XML: version, number of features and number of objects, each 4 bytes; of each feature its number
and a value for each object; then the number of objects once more, and a record of each. A record begins with the number
of the object and where its directory is in the .cif; its size depends on the number of channels.
"""

import struct
from typing import IO

from fatescope.data.native.acquisition import MAX_CHANNELS

KNOWN = 5
"""Objects by which a .cif is known."""
_COUNTS = struct.Struct("<3x3I")
_COUNT = struct.Struct("<I")
_VALUE = 8
_RECORD = struct.Struct("<IQ")
_SIZES = {92 + 32 * channels for channels in range(1, MAX_CHANNELS + 1)}
"""Bytes of a record."""


def read_offsets(file: IO[bytes]) -> dict[int, int]:
    """Return where the directories of the first objects are, by their numbers; `file` is right behind the XML.

    Empty where the sizes of what follows do not add up to the end of the file: then it is something else.
    """
    begin = file.tell()
    size = file.seek(0, 2) - begin
    file.seek(begin)
    counts = file.read(_COUNTS.size)
    if len(counts) < _COUNTS.size:
        return {}
    _, features, objects = _COUNTS.unpack(counts)
    records = _COUNTS.size + features * (_COUNT.size + objects * _VALUE)
    of_each, rest = divmod(size - records - _COUNT.size, objects or 1)
    if rest or of_each not in _SIZES:
        return {}
    file.seek(begin + records)
    if _COUNT.unpack(file.read(_COUNT.size)) != (objects,):
        return {}
    raw = file.read(min(objects, KNOWN) * of_each)
    return dict(_RECORD.unpack_from(raw, at) for at in range(0, len(raw), of_each))
