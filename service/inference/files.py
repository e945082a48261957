"""The files of a request or a folder; zip archives are read in memory.

Nothing is fetched (a URL is not an image), and nothing is extracted to disk.
"""

import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from fatescope.data import paths
from fatescope.data.archives import DAMAGED, open_zip
from fatescope.errors import ImageError
from service.inference.errors import RequestError

MAX_FILE_BYTES = 200_000_000
"""Largest file in a batch request: a TIFF may have thousands of pages."""
MAX_FILES = 20_000
"""Files in a request, including those in archives but not those of other channels."""
MAX_EXPANDED_BYTES = 2_000_000_000
"""Total uncompressed size of the files in archives."""
MAX_NAME = 500
"""Characters of a file name that are kept."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Upload:
    """One file as received, not decoded."""

    raw: bytes
    name: str
    """The client's name for it; used in messages, and for the object number and channel that it may contain."""


@dataclass(frozen=True)
class RejectedFile:
    """A file that was not read, and why."""

    name: str
    error: ImageError


@dataclass(frozen=True)
class OtherChannel:
    """A file of a channel that the model does not use: part of every complete export, and no mistake."""

    name: str


def unpack(
    files: list[tuple[str, IO[bytes]]], is_other_channel: Callable[[str], bool]
) -> Iterator[Upload | RejectedFile | OtherChannel]:
    """Yield every file, including those in archives; a file that cannot be read is yielded as a RejectedFile.

    Files whose name `is_other_channel` recognises are not decompressed. Raises RequestError before anything is
    decompressed if the archives announce more files or bytes than allowed.
    """
    opened = [(name, file, _open_zip(name, file)) for name, file in files]
    archives = [archive for _, _, archive in opened if isinstance(archive, zipfile.ZipFile)]
    inside = [member for archive in archives for member in list_members(archive)]
    _check_archives([member for member in inside if not is_other_channel(member.filename)], len(files))
    for name, file, archive in opened:
        if isinstance(archive, zipfile.ZipFile):
            for member in list_members(archive):
                other = is_other_channel(member.filename)
                yield OtherChannel(member.filename) if other else _read_member(archive, member, name)
        elif is_other_channel(name):
            yield OtherChannel(name)
        elif archive is not None:
            yield archive
        else:
            file.seek(0)
            raw = file.read(MAX_FILE_BYTES + 1)
            yield Upload(raw, name) if len(raw) <= MAX_FILE_BYTES else RejectedFile(name, _too_large(name))


def list_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return the files in an archive, without folders and hidden files."""
    return [member for member in archive.infolist() if not member.is_dir() and not paths.is_hidden(member.filename)]


def _open_zip(name: str, file: IO[bytes]) -> zipfile.ZipFile | RejectedFile | None:
    file.seek(0)
    if file.read(4) not in _ZIP:
        return None
    try:
        return open_zip(file)
    except DAMAGED as error:
        return RejectedFile(
            name, ImageError("zip", f"{name}: a zip archive that cannot be opened ({error}); create it again")
        )


def _check_archives(inside: list[zipfile.ZipInfo], files: int) -> None:
    if files + len(inside) > MAX_FILES:
        raise RequestError(
            413, "too_many_files", f"{files + len(inside):,} files, but a request may have {MAX_FILES:,}; "
            "send the cells in several requests",
        )  # fmt: skip
    expanded = sum(member.file_size for member in inside)
    if expanded > MAX_EXPANDED_BYTES:
        raise RequestError(
            413, "zip_too_large", f"{expanded:,} bytes decompressed, but a request may have {MAX_EXPANDED_BYTES:,}; "
            "send the cells in several requests",
        )  # fmt: skip


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, zip_name: str) -> Upload | RejectedFile:
    name = shorten(member.filename)
    if member.flag_bits & _ENCRYPTED:
        return RejectedFile(
            name, ImageError("zip", f"{name}: encrypted in {zip_name}; create the archive without a password")
        )
    if member.file_size > MAX_FILE_BYTES:
        return RejectedFile(name, _too_large(name))
    try:
        # zipfile decompresses no more than the announced size.
        return Upload(archive.read(member), name)
    except DAMAGED as error:
        return RejectedFile(
            name,
            ImageError("zip", f"{name}: cannot be decompressed from {zip_name} ({error}); create the archive again"),
        )


def _too_large(name: str) -> ImageError:
    return ImageError(
        "too_large", f"{name}: more than {MAX_FILE_BYTES:,} bytes; export one cell per file, or fewer pages"
    )


def shorten(name: str) -> str:
    """Return the last MAX_NAME characters of a file name."""
    return name if len(name) <= MAX_NAME else f"…{name[-MAX_NAME:]}"
