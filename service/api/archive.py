"""Pack files that a response holds into a zip."""

import io
import re
import zipfile
from collections.abc import Iterable

_UNSAFE = re.compile(r'[\x00-\x1f<>:"/\\|?*]+')
"""What file names must not have, on Windows above all."""


def pack(files: Iterable[tuple[str, bytes]], suffix: str) -> bytes:
    """Return a zip of files of these names, which are made safe and different from each other, and `suffix`."""
    buffer, taken = io.BytesIO(), set[str]()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files:
            stem = _UNSAFE.sub("_", name).strip(" .") or "sample"
            path, number = f"{stem}.{suffix}", 1
            # Windows and macOS take names that differ in case for the same.
            while path.lower() in taken:
                number += 1
                path = f"{stem} ({number}).{suffix}"
            taken.add(path.lower())
            archive.writestr(path, content)
    return buffer.getvalue()
