"""Pack files that a response holds into a zip."""

import io
import re
import zipfile
from collections.abc import Iterable

_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*]+')
"""What file names must not have, on Windows above all."""

_MAX_STEM = 240
"""Bytes of a name that are kept, its end: file systems take 255 with a number and a suffix."""


def pack(files: Iterable[tuple[str, bytes]], suffix: str) -> bytes:
    """Return a zip of files of these names, which are made safe and different from each other, and `suffix`."""
    buffer, taken, last = io.BytesIO(), set[str](), dict[str, int]()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            safe = _UNSAFE.sub("_", name).encode(errors="ignore")[-_MAX_STEM:].decode(errors="ignore")
            stem = safe.strip(" .") or "sample"
            path, number = f"{stem}.{suffix}", last.get(stem.lower(), 1)
            # Windows and macOS take names that differ in case for the same.
            while path.lower() in taken:
                number += 1
                path = f"{stem} ({number}).{suffix}"
            taken.add(path.lower())
            last[stem.lower()] = number
            archive.writestr(path, content)
    return buffer.getvalue()
