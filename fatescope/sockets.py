"""Where Unix sockets are made: the kernel takes no path of more than about a hundred bytes."""

import os
import tempfile
from pathlib import Path

MAX_BYTES = 60
"""Of the folder of temporary files. BentoML adds 42 bytes to it for a socket, and takes no more than 102 in all."""
SHORT = (Path("/tmp"), Path("/var/tmp"))  # noqa: S108  folders of our own are made in them, which nobody else can enter


def shorten_tmpdir() -> None:
    """Have temporary files of this process, and of those that it starts, in a folder whose path is short enough.

    Clusters and batch systems like to set TMPDIR to a folder deep in another. Where no short one can be written to,
    nothing changes.
    """
    if len(os.fsencode(tempfile.gettempdir())) <= MAX_BYTES:
        return
    short = next((folder for folder in SHORT if os.access(folder, os.W_OK | os.X_OK)), None)
    if short is not None:
        os.environ["TMPDIR"] = str(short)
        # Python has looked it up once, and keeps it.
        tempfile.tempdir = str(short)
