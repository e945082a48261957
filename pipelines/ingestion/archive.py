"""Unpack the zip of an export, which may come from anywhere."""

import shutil
import stat
import zipfile
from pathlib import Path, PurePosixPath, PureWindowsPath

from tqdm import tqdm

from fatescope.data.archives import DAMAGED, open_zip
from fatescope.data.paths import ORIGIN, is_hidden
from fatescope.errors import DataError

MAX_EXPANSION = 200
"""A zip whose content is this many times its size is no export of images."""


def unpack(source: Path, folder: Path) -> int:
    """Unpack the zip `source` into `folder` and return the number of files, without `origin.json`.

    Raises DataError for a zip that is damaged or encrypted, whose entries lead out of it or overwrite each other, or
    that would expand beyond reason.
    """
    try:
        with open_zip(source) as archive:
            entries = _check_entries(source, archive)
            for path, entry in tqdm(entries.items(), desc="unzip", unit="file", delay=1):
                (folder / path).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(entry) as content, (folder / path).open("wb") as file:
                    shutil.copyfileobj(content, file)
    except DAMAGED as error:
        raise DataError(f"{source}: cannot be unpacked ({error}); export or copy it again, unencrypted") from error
    return len(entries) - (ORIGIN in entries)


def _check_entries(source: Path, archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    """Return path → entry of the files in a zip, without hidden ones."""
    entries: dict[str, zipfile.ZipInfo] = {}
    for entry in archive.infolist():
        # Some programs for Windows write backslashes.
        name = entry.filename.replace("\\", "/")
        path = PurePosixPath(name)
        outside = path.is_absolute() or ".." in path.parts or PureWindowsPath(name).drive
        if outside or stat.S_ISLNK(entry.external_attr >> 16):
            raise DataError(f"{source}: the entry '{entry.filename}' leads out of the zip; do not use this file")
        if name.endswith("/") or is_hidden(str(path)):
            continue
        if str(path) in entries:
            raise DataError(f"{source}: holds '{path}' twice; export it again")
        entries[str(path)] = entry
    expanded, packed = sum(entry.file_size for entry in entries.values()), source.stat().st_size
    if expanded > MAX_EXPANSION * packed:
        raise DataError(f"{source}: would expand to {expanded:,} bytes; this is no export of images")
    return entries
