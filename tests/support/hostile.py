"""A decoder that does what the name of a file says: ends its process, never ends, or wants all memory."""

import os
import signal

import numpy as np

from fatescope.data import archives
from fatescope.data.native import reader as native_reader
from service.inference import decoding_parts


def decode_pages(source, headers, name):
    """Decode pages as the service does, but for files of these names."""
    if "exit" in name:
        os._exit(0)
    if "segfault" in name:
        os.kill(os.getpid(), signal.SIGSEGV)
    if "hang" in name:
        while True:
            pass
    if "memory" in name:
        np.ones(1 << 31, np.uint8)
    if "page 2" in name and any(header.height == 46 for header in headers):
        os._exit(0)
    return decoding_parts.decode_pages(source, headers, name)


def decode_stored(image):
    """Decode an object of a native file, but for object 2 of files of these names."""
    if image.name == "exit.cif#2":
        os._exit(0)
    if image.name == "memory.cif#2":
        np.ones(1 << 31, np.uint8)
    return native_reader.decode_stored(image)


def expand(stored, entry):
    """Decompress an entry of a zip, but for those of these names."""
    if "packed exit" in entry.filename:
        os._exit(0)
    return archives.expand(stored, entry)
