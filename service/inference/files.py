"""The files of a request or a folder; zip archives are read in memory.

Nothing is fetched (a URL is not an image), and nothing is extracted to disk.
"""

import io
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import IO

from fatescope.data import archives, instruments, samples
from fatescope.data.archives import Member
from fatescope.data.crops import Pixels
from fatescope.data.images import Header
from fatescope.data.names import is_system_file, normalise
from fatescope.data.native.names import is_native
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
BODY_NAME = "request body"
"""Name in messages for a file that has none."""


Expand = Callable[[zipfile.ZipFile, zipfile.ZipInfo, str], bytes]


@dataclass(frozen=True)
class Origin:
    """Where in a request a file comes from."""

    sample: str | None = None
    """Its zip and folder, as `fatescope.data.samples` says; None for a loose file."""
    upload: int = 0
    """Position in the request of the file, or of the zip that it is in, from 0."""


@dataclass(frozen=True)
class Upload:
    """One file as received, not decoded."""

    raw: bytes
    """Empty for a native file that is read as it is needed."""
    name: str
    """The client's name for it; used in messages, and for the object number and channel that it may contain."""
    origin: Origin = Origin()
    file: IO[bytes] | None = None
    """A native file of an instrument, which holds many cells and may be larger than the memory."""
    object_key: str = ""
    """What it shares with the other files of the same object, where those were asked for; empty for none."""
    headers: list[Header] | None = None
    """Of its pages, where they were read already."""
    decoded: list[Pixels | ImageError] | None = None
    """Its pages, where they were decoded together with those of other files."""


@dataclass(frozen=True)
class RejectedFile:
    """A file that was not read, and why."""

    name: str
    error: ImageError
    origin: Origin = Origin()
    object_key: str = ""
    """As of an Upload."""


@dataclass(frozen=True)
class OtherChannel:
    """A file of a channel that the model does not use: part of every complete export, and no mistake."""

    name: str


@dataclass(frozen=True)
class _Opened:
    """A file of a request, of which only the directory of a zip has been read."""

    name: str
    file: IO[bytes]
    upload: int
    archive: zipfile.ZipFile | None
    """The zip that it is."""
    members: list[Member]
    """The files in the zip."""
    error: ImageError | None
    """Why it is a zip that cannot be opened."""


def unpack(
    files: list[tuple[str, IO[bytes]]],
    is_other_channel: Callable[[str], bool],
    object_key: Callable[[str], str] | None = None,
    expand: Expand = lambda archive, entry, _: archives.read(archive, entry),
) -> Iterator[Upload | RejectedFile | OtherChannel]:
    """Yield every file, including those in archives; a file that cannot be read is yielded as a RejectedFile.

    Files that operating systems add are left out, and those whose name `is_other_channel` recognises are not
    decompressed. Raises RequestError before anything is decompressed if the archives announce more files or bytes than
    allowed. With an `object_key`, of names, those of one object in one zip, or among the loose files, follow each other
    in the place of the first, so that no others are held in memory until its channels are together. `expand`
    decompresses an entry of a zip, whose name for messages it gets; it raises ImageError or what a ZipFile does.
    """
    opened = [_open(name, file, index) for index, (name, file) in enumerate(files)]
    opened = [file for file in opened if not is_system_file(normalise(file.name))]
    inputs = [[member for member in file.members if not is_other_channel(member.path)] for file in opened]
    _check_archives([member.entry for members in inputs for member in members], len(files))
    entries = list[_Entry]()
    for file, members, of_files in zip(opened, inputs, _assign_samples(opened, inputs), strict=True):
        if file.archive is None:
            entries.append(
                _Entry(file, None, None if is_other_channel(file.name) else Origin(of_files[0], file.upload))
            )
            continue
        of_inputs = dict(zip((member.path for member in members), of_files, strict=True))
        entries += [
            _Entry(file, member, Origin(of_inputs[member.path], file.upload) if member.path in of_inputs else None)
            for member in file.members
        ]
    for key, entry in (("", entry) for entry in entries) if object_key is None else _by_object(entries, object_key):
        yield entry.read(key, expand)


@dataclass(frozen=True)
class _Entry:
    """A file of a request, or of a zip in it, that was not read yet."""

    opened: _Opened
    member: Member | None
    """Of the zip."""
    origin: Origin | None
    """None for a channel that the model does not use."""

    @property
    def name(self) -> str:
        return self.member.path if self.member else self.opened.name

    def read(self, object_key: str, expand: Expand) -> Upload | RejectedFile | OtherChannel:
        if self.origin is None:
            return OtherChannel(self.name)
        read = (
            _read(self.opened, self.origin)
            if self.member is None
            else _read_member(self.opened, self.member, self.origin, expand)
        )
        return replace(read, object_key=object_key) if object_key else read


def _by_object(entries: list[_Entry], object_key: Callable[[str], str]) -> Iterator[tuple[str, _Entry]]:
    """Yield the entries with the keys of their objects, those of one object after each other; first, other channels."""
    objects: dict[str, list[_Entry]] = {}
    seen = Counter[str]()
    for entry in entries:
        if entry.origin is None:
            yield "", entry
            continue
        place = f"{entry.opened.upload}/" if entry.member else "/"
        # A name that comes again is of another object: the page sends the content of several zips as loose files.
        key = f"{place}{seen[place + entry.name]}/{object_key(entry.name)}"
        seen[place + entry.name] += 1
        objects.setdefault(key, []).append(entry)
    yield from ((key, entry) for key, of_object in objects.items() for entry in of_object)


def _open(name: str, file: IO[bytes], upload: int) -> _Opened:
    if not archives.is_zip(file):
        return _Opened(name, file, upload, None, [], None)
    try:
        archive = archives.open_zip(file)
        return _Opened(name, file, upload, archive, archives.list_members(archive), None)
    except archives.DAMAGE as error:
        message = f"{name}: a zip archive that cannot be opened ({error}); create it again"
        return _Opened(name, file, upload, None, [], ImageError("zip", message))


def _assign_samples(opened: list[_Opened], inputs: list[list[Member]]) -> list[list[str | None]]:
    """Return the samples of the `inputs` of each zip, and that of each file that is none."""
    loose = [normalise(file.name) for file in opened if file.archive is None]
    named = [file for file in opened if file.archive and file.name != BODY_NAME]
    names = samples.name_zips([normalise(file.name) for file in named], loose)
    name_of = dict(zip((file.upload for file in named), names, strict=True))
    paths = [
        [member.path for member in members] if file.archive else [normalise(file.name)]
        for file, members in zip(opened, inputs, strict=True)
    ]
    flat = [(name_of.get(file.upload, ""), path) for file, its in zip(opened, paths, strict=True) for path in its]
    assigned = iter(samples.assign_samples(flat))
    return [[shorten(next(assigned)) or None for _ in its] for its in paths]


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


def _read(opened: _Opened, origin: Origin) -> Upload | RejectedFile:
    if opened.error:
        return RejectedFile(opened.name, opened.error, origin)
    opened.file.seek(0)
    if instruments.is_native(opened.name, opened.file.read(instruments.HEAD)):
        return Upload(b"", opened.name, origin, opened.file)
    opened.file.seek(0)
    raw = opened.file.read(MAX_FILE_BYTES + 1)
    if len(raw) > MAX_FILE_BYTES:
        return RejectedFile(opened.name, too_large(opened.name), origin)
    return Upload(raw, opened.name, origin)


def _read_member(opened: _Opened, member: Member, origin: Origin, expand: Expand) -> Upload | RejectedFile:
    assert opened.archive is not None
    name = shorten(member.path)
    if member.problem:
        return RejectedFile(name, ImageError("zip", f"{name}: not read from {opened.name}: {member.problem}"), origin)
    if max(member.entry.file_size, member.entry.compress_size) > MAX_FILE_BYTES:
        return RejectedFile(name, too_large(name), origin)
    try:
        # zipfile decompresses no more than the announced size.
        raw = expand(opened.archive, member.entry, name)
        native = instruments.is_native(name, raw[: instruments.HEAD])
        return Upload(b"", name, origin, io.BytesIO(raw)) if native else Upload(raw, name, origin)
    except ImageError as error:
        return RejectedFile(name, error, origin)
    except archives.DAMAGE as error:
        message = f"{name}: cannot be decompressed from {opened.name} ({error}); create the archive again"
        return RejectedFile(name, ImageError("zip", message), origin)


def too_large(name: str) -> ImageError:
    """Return why a file of more than MAX_FILE_BYTES is not read."""
    if is_native(name):
        return ImageError("too_large", f"{name}: more than {MAX_FILE_BYTES:,} bytes in a zip; send the file itself")
    instrument = instruments.explain(name)
    if instrument:
        return ImageError("not_an_image", f"{name}: {instrument}")
    return ImageError(
        "too_large", f"{name}: more than {MAX_FILE_BYTES:,} bytes; export one cell per file, or fewer pages"
    )


def shorten(name: str) -> str:
    """Return the last MAX_NAME characters of a file name."""
    return name if len(name) <= MAX_NAME else f"…{name[-MAX_NAME:]}"
