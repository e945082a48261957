"""Unpack the zip of an export, which may come from anywhere."""

import shutil
import zipfile
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from fatescope.data import archives, instruments
from fatescope.data.archives import Member
from fatescope.data.export_folder import CORRECTIONS, is_record
from fatescope.errors import DataError

MAX_EXPANSION = 200
"""A zip whose content is this many times its size is no export of images."""


def unpack(source: Path, folder: Path) -> int:
    """Unpack the zip `source` into `folder` and return the number of files, without those of Fatescope itself.

    Raises DataError for a zip that is damaged or encrypted, whose entries lead out of it or overwrite each other, or
    that would expand beyond reason.
    """
    if instrument := instruments.explain_file(source):
        raise DataError(f"{source}: {instrument}")
    try:
        with archives.open_zip(source) as archive:
            members = _check_members(source, archive)
            for member in tqdm(members, desc="unzip", unit="file", delay=1):
                (folder / member.path).parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member.entry) as content, (folder / member.path).open("wb") as file:
                    shutil.copyfileobj(content, file)
    except archives.DAMAGE as error:
        raise DataError(f"{source}: cannot be unpacked ({error}); export or copy it again, unencrypted") from error
    return sum(not is_record(member.path) for member in members)


def _check_members(source: Path, archive: zipfile.ZipFile) -> list[Member]:
    """Return the files in a zip, all of which can be trusted, without a log of corrections, which grows."""
    members = [member for member in archives.list_members(archive) if PurePosixPath(member.path).name != CORRECTIONS]
    if problem := next((member.problem for member in members if member.problem), ""):
        raise DataError(f"{source}: {problem}")
    expanded, packed = sum(member.entry.file_size for member in members), source.stat().st_size
    if expanded > MAX_EXPANSION * packed:
        raise DataError(f"{source}: would expand to {expanded:,} bytes; this is no export of images")
    return members
