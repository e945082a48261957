"""The files of a zip, as import and service read it: what counts as a zip, what its entries are called, which to trust.

A zip may come from anywhere. Nothing is extracted by the names in it without `Member.problem` being empty.
"""

import io
import lzma
import re
import stat
import struct
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from dataclasses import dataclass
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Final

from fatescope.data import images
from fatescope.data.names import is_system_file, is_too_long, normalise

SUFFIX: Final = ".zip"
_ZIP: Final = (b"PK\x03\x04", b"PK\x05\x06")
DAMAGE: Final = (
    zipfile.BadZipFile,
    OSError,
    ValueError,
    RuntimeError,
    struct.error,
    zlib.error,
    lzma.LZMAError,
    LookupError,
    OverflowError,
    EOFError,
    MemoryError,
)
"""What `open_zip` and reading an entry raise where a zip is damaged or encrypted."""
_JAPANESE: Final = r"\u3000-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\uff01-\uff5e"
_NOT_JAPANESE: Final = re.compile(rf"[^\x00-\x7f{_JAPANESE}]|(?<![{_JAPANESE}])[{_JAPANESE}](?![{_JAPANESE}])")
_UTF8, _ENCRYPTED, _DOS_FOLDER, _UNICODE_PATH = 0x800, 0x1, 0x10, 0x7075
_PLAIN_FLAGS: Final = _UTF8 | 0x8 | 0x6
"""Flags of an entry that is read as any other: its name, sizes that follow the content, how hard it was compressed."""
_PLAIN_BYTES: Final = 1_000_000
"""Of an entry, compressed or not: a larger one would be in memory twice, and gains nothing."""
_LOCAL: Final = struct.Struct("<4s22xHH")
"""The header before the content (APPNOTE.TXT, 4.3.7): its signature, and the bytes of its name and its extra field."""


@dataclass(frozen=True)
class Member:
    """A file in a zip."""

    path: str
    """Its path, with `/`."""
    entry: zipfile.ZipInfo
    problem: str
    """Why it must not be read, and what to do; empty where it may."""


def is_zip(file: IO[bytes]) -> bool:
    """Return whether a file is a zip: by its beginning or, where that is no image's, by the directory at its end.

    Self-extracting zips, and those that a mail program put a header before, begin with other bytes; an image whose
    pixels happen to hold the signature of a zip is an image all the same. The position in `file` is at its beginning
    afterwards.
    """
    file.seek(0)
    start = file.read(8)
    known = start.startswith(_ZIP) or (not images.is_image(start) and _ends_as_zip(file))
    file.seek(0)
    return known


def _ends_as_zip(file: IO[bytes]) -> bool:
    try:
        return zipfile.is_zipfile(file)
    except DAMAGE:
        # The last part of several: a zip, of which `open_zip` says what is wrong.
        return True


def open_zip(file: Path | IO[bytes]) -> zipfile.ZipFile:
    """Open a zip to read; raises one of DAMAGE where it cannot be read."""
    with warnings.catch_warnings():
        # From Python 3.12 on, it warns of a field for a Unicode name that is empty; `_decode_name` judges these fields.
        warnings.filterwarnings("ignore", message="Empty unicode path")
        archive = zipfile.ZipFile(file)
    # Before Python 3.12, to ask whether such an entry is a folder is an error.
    if not all(entry.filename for entry in archive.infolist()):
        archive.close()
        raise zipfile.BadZipFile("an entry has no name")
    return archive


def list_members(archive: zipfile.ZipFile) -> list[Member]:
    """Return the files in a zip in the order of its directory, each path once.

    Folders, and hidden files and those that operating systems add, are left out.
    """
    entries = [(normalise(_decode_name(entry)), entry) for entry in archive.infolist()]
    paths = [(_tidy(path), entry) for path, entry in entries if not _is_folder(path, entry)]
    files = [(path, entry) for path, entry in paths if not is_system_file(path)]
    times = Counter(path for path, _ in files)
    first = dict(reversed(files))
    return [
        Member(path, first[path], next(_problems(path, first[path], times[path]), ""))
        for path in dict.fromkeys(path for path, _ in files)
    ]


def read(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return the content of an entry as `archive.read` does, but an image of a cell in less time.

    What is in any way unusual is left to it, with all errors: they are one of DAMAGE.
    """
    content = _read_plain(archive, entry)
    return archive.read(entry) if content is None else content


def _read_plain(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes | None:
    """Return the content of an entry whose headers agree and whose bytes are what these announce, None of others."""
    file, end = archive.fp, getattr(entry, "_end_offset", None)
    large = max(entry.compress_size, entry.file_size) > _PLAIN_BYTES
    if file is None or large or entry.flag_bits & ~_PLAIN_FLAGS or not entry.orig_filename.isascii():
        return None
    file.seek(entry.header_offset)
    head = file.read(_LOCAL.size)
    if len(head) < _LOCAL.size:
        return None
    signature, name, extra = _LOCAL.unpack(head)
    rest = file.read(name + extra + entry.compress_size)
    if (
        signature != _ZIP[0]
        or rest[:name] != entry.orig_filename.encode()
        or len(rest) != name + extra + entry.compress_size
        or (end is not None and entry.header_offset + _LOCAL.size + len(rest) > end)
    ):
        return None
    content = _expanded(rest[name + extra :], entry)
    whole = content is not None and len(content) == entry.file_size and zlib.crc32(content) == entry.CRC
    return content if whole else None


def _expanded(stored: bytes, entry: zipfile.ZipInfo) -> bytes | None:
    """Return the content of an entry, None where it is compressed in an unusual way, or damaged."""
    if entry.compress_type == zipfile.ZIP_STORED:
        return stored
    if entry.compress_type != zipfile.ZIP_DEFLATED:
        return None
    inflating = zlib.decompressobj(-zlib.MAX_WBITS)
    with suppress(zlib.error):
        # One byte more than it announces shows that it holds more.
        content = inflating.decompress(stored, entry.file_size + 1)
        return content if inflating.eof else None
    return None


def read_compressed(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> bytes:
    """Return the bytes of an entry as they are stored, for `expand`; raises one of DAMAGE where there are none."""
    stored = copy(entry)
    stored.compress_type, stored.file_size = zipfile.ZIP_STORED, entry.compress_size
    # It is that of the content.
    del stored.CRC
    return archive.read(stored)


def expand(stored: bytes, entry: zipfile.ZipInfo) -> bytes:
    """Return the content of an entry, at most as many bytes as it announces; raises one of DAMAGE."""
    with zipfile.ZipExtFile(io.BytesIO(stored), "r", entry) as file:
        return file.read(entry.file_size)


def _tidy(path: str) -> str:
    """Return what `PurePosixPath` makes of a path, which takes ten times as long where there is nothing to do."""
    return str(PurePosixPath(path)) if any(part in ("", ".") for part in path.split("/")) else path


def _is_folder(path: str, entry: zipfile.ZipInfo) -> bool:
    return path.endswith("/") or (entry.file_size == 0 and bool(entry.external_attr & _DOS_FOLDER))


def _problems(path: str, entry: zipfile.ZipInfo, times: int) -> Iterator[str]:
    if path.startswith("/") or ".." in path.split("/") or (":" in path and PureWindowsPath(path).drive):
        yield f"the entry '{path}' leads out of the zip; do not use this file"
    if path == ".":
        yield f"an entry is called '{entry.filename}', which is no name of a file; pack the files again"
    if stat.S_ISLNK(entry.external_attr >> 16):
        yield f"the entry '{path}' is a link, which may lead out of the zip; pack the file itself"
    if is_too_long(path):
        yield f"the name of '{path[:60]}…' has {len(path):,} characters, which no file can have; export it again"
    if times > 1:
        yield f"holds '{path}' twice; export it again"
    if entry.flag_bits & _ENCRYPTED:
        yield f"'{path}' is encrypted; create the zip without a password"
    if path.lower().endswith(SUFFIX):
        yield f"'{path}' is a zip in a zip; unpack it first"


def _decode_name(entry: zipfile.ZipInfo) -> str:
    """Return the name of an entry.

    A name without the flag for UTF-8 is in the code page of the machine that wrote it: UTF-8 all the same (macOS),
    Shift-JIS (Windows in Japanese), or CP437, as the format says.
    """
    original = entry.orig_filename.partition("\0")[0]
    # Newer versions of Python read the Unicode Path field themselves.
    if entry.flag_bits & _UTF8 or original.isascii() or entry.filename != original:
        return entry.filename
    raw = original.encode("cp437")
    if (name := _unicode_path(entry.extra, raw)) is not None:
        return name
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        pass
    try:
        name = raw.decode("cp932")
    except UnicodeDecodeError:
        return entry.filename
    # Bytes of accented letters can be read as single Japanese characters, words are made of several.
    return entry.filename if _NOT_JAPANESE.search(name) else name


def _unicode_path(extra: bytes, raw: bytes) -> str | None:
    """Return the name in an Info-ZIP Unicode Path field (APPNOTE.TXT, 4.6.9), None where there is none for `raw`."""
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        field, extra = extra[4 : 4 + size], extra[4 + size :]
        if kind == _UNICODE_PATH and len(field) > 5 and struct.unpack_from("<I", field, 1)[0] == zlib.crc32(raw):
            try:
                return field[5:].decode("utf-8")
            except UnicodeDecodeError:
                return None
    return None
