"""The files of a request or a folder; a zip is opened, in memory.

Nothing is ever fetched: an address is not an image. Nothing of a zip is ever written.
"""

import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import IO

from fatescope.data import paths
from fatescope.errors import ImageError
from service.inference.errors import RequestError

MAX_FILE_BYTES = 200_000_000
"""The largest file in a request for many: a TIFF may have thousands of pages."""
MAX_FILES = 20_000
"""Files in a request, those in a zip included, but for those of channels that no model looks at."""
MAX_EXPANDED_BYTES = 2_000_000_000
"""What the files of a zip may have together, unpacked."""
MAX_NAME = 500
"""Characters of a file name."""
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
_ENCRYPTED = 0x1


@dataclass(frozen=True)
class Upload:
    """One file as it came, not yet looked at."""

    raw: bytes
    name: str
    """The client's name for it; for messages only."""


@dataclass(frozen=True)
class Refused:
    """A file that was not even read."""

    name: str
    error: ImageError


@dataclass(frozen=True)
class OtherChannel:
    """A file of a channel that the model does not look at: part of every whole export, and no mistake."""

    name: str


def unpack(
    files: list[tuple[str, IO[bytes]]], is_other: Callable[[str], bool]
) -> Iterator[Upload | Refused | OtherChannel]:
    """Yield every file, those in zips included; one that cannot be read is yielded with the reason.

    A file that `is_other` tells by its name is not unpacked. Raises RequestError for zips that announce more than is
    allowed, before anything is unpacked.
    """
    opened = [(name, file, _open_zip(name, file)) for name, file in files]
    inside = [member for _, _, each in opened if isinstance(each, zipfile.ZipFile) for member in members(each)]
    _check_zips([member for member in inside if not is_other(member.filename)], len(files))
    for name, file, archive in opened:
        if isinstance(archive, zipfile.ZipFile):
            for member in members(archive):
                other = is_other(member.filename)
                yield OtherChannel(member.filename) if other else _read_member(archive, member, name)
        elif is_other(name):
            yield OtherChannel(name)
        elif archive is not None:
            yield archive
        else:
            file.seek(0)
            raw = file.read(MAX_FILE_BYTES + 1)
            yield Upload(raw, name) if len(raw) <= MAX_FILE_BYTES else Refused(name, _too_large(name))


def members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    """Return what is a file in a zip, without folders and what systems hide there."""
    return [each for each in archive.infolist() if not each.is_dir() and not paths.is_hidden(each.filename)]


def _open_zip(name: str, file: IO[bytes]) -> zipfile.ZipFile | Refused | None:
    file.seek(0)
    if file.read(4) not in _ZIP:
        return None
    try:
        return zipfile.ZipFile(file)
    except (zipfile.BadZipFile, OSError, ValueError, struct.error, NotImplementedError) as error:
        return Refused(name, ImageError("zip", f"{name}: a zip that cannot be opened ({error}); pack it again"))


def _check_zips(inside: list[zipfile.ZipInfo], files: int) -> None:
    if files + len(inside) > MAX_FILES:
        raise RequestError(
            413, "too_many_files", f"{files + len(inside):,} files, but a request may have {MAX_FILES:,}; "
            "send the cells in several requests",
        )  # fmt: skip
    expanded = sum(member.file_size for member in inside)
    if expanded > MAX_EXPANDED_BYTES:
        raise RequestError(
            413, "zip_too_large", f"the zip has {expanded:,} bytes unpacked, but {MAX_EXPANDED_BYTES:,} are allowed; "
            "send the cells in several requests",
        )  # fmt: skip


def _read_member(archive: zipfile.ZipFile, member: zipfile.ZipInfo, zip_name: str) -> Upload | Refused:
    name = shortened(member.filename)
    if member.flag_bits & _ENCRYPTED:
        return Refused(name, ImageError("zip", f"{name}: encrypted in {zip_name}; pack it without a password"))
    if member.file_size > MAX_FILE_BYTES:
        return Refused(name, _too_large(name))
    try:
        # No more is unpacked than was announced.
        return Upload(archive.read(member), name)
    # A zip that is damaged fails in all these ways.
    except (
        zipfile.BadZipFile,
        OSError,
        ValueError,
        RuntimeError,
        struct.error,
        zlib.error,
        EOFError,
        MemoryError,
    ) as e:
        return Refused(name, ImageError("zip", f"{name}: cannot be unpacked from {zip_name} ({e}); pack it again"))


def _too_large(name: str) -> ImageError:
    return ImageError(
        "too_large", f"{name}: a file may have {MAX_FILE_BYTES:,} bytes; export one cell a file, or fewer pages"
    )


def shortened(name: str) -> str:
    """Return the last MAX_NAME characters of a file name."""
    return name if len(name) <= MAX_NAME else f"…{name[-MAX_NAME:]}"
