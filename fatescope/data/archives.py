"""Zip archives, in which exports are packed."""

import lzma
import struct
import zipfile
import zlib
from pathlib import Path
from typing import IO

DAMAGED = (
    zipfile.BadZipFile,
    zlib.error,
    lzma.LZMAError,
    struct.error,
    EOFError,
    OSError,
    ValueError,
    # Encrypted, or compressed in a way that is not known.
    RuntimeError,
    LookupError,
    OverflowError,
    MemoryError,
)
"""What `open_zip`, and reading an entry, raise where an archive is damaged or encrypted."""


def open_zip(file: Path | IO[bytes]) -> zipfile.ZipFile:
    """Open an archive to read; raises one of DAMAGED where it cannot be read."""
    archive = zipfile.ZipFile(file)
    # Before Python 3.12, to ask whether such an entry is a folder is an error.
    if not all(entry.filename for entry in archive.infolist()):
        archive.close()
        raise zipfile.BadZipFile("an entry has no name")
    return archive
