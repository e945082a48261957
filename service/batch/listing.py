"""The listing of a batch job: which file is in which part, and what has changed in the source since.

Row group i of `files.parquet` is part i. A file keeps its part for as long as it stays as it is; one that is new, or
changed, goes to a part at the end. So the parts that are done stay done, also while the source grows. A native file of
an instrument is listed in pieces (`service.batch.pieces`), each of which is a part.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fatescope.atomic import replacing
from fatescope.data.batches import batched
from fatescope.data.export_folder import list_files, shown
from fatescope.data.native.names import is_native
from service.batch import pieces
from service.inference.decoding import CellDecoder

log = logging.getLogger(__name__)

_SCHEMA = pa.schema([("file", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())])
_MOST_NS = 1 << 62
_UNKNOWN = -1
"""Size and time of a file that cannot be looked at, such as a link to nowhere."""


class Listed(NamedTuple):
    """A file as it was when the source was listed."""

    file: str
    """Path below the source, with `/`, or a piece of a native file."""
    size: int
    """Bytes."""
    mtime_ns: int
    """When it was last changed, ns since 1970."""


@dataclass(frozen=True)
class Changes:
    """What a source has got, and lost, since it was listed."""

    new: list[Listed]
    changed: dict[int, list[Listed]]
    """Part → files of it, as they are now."""
    vanished: list[str]
    present: int
    """Files that are there."""
    outdated: dict[int, list[Listed]]
    """Part → pieces of native files that are cut otherwise by now."""


def folder_of(source: Path) -> Path:
    """Return the folder that the files of a source are below: itself, or that of a source that is one file."""
    return source if source.is_dir() else source.parent


def look(source: Path, decoder: CellDecoder, piece_objects: int) -> Iterator[Listed]:
    """Yield the files of `source`, a folder or one file, without those of channels that the model does not use.

    A native file is cut into pieces of `piece_objects`. Where the model takes several channels, the files of an object
    are one entry, all of which come last. A name that is not UTF-8 is left out and named, because no table can hold it.
    """
    objects: dict[str, list[tuple[int, Listed]]] = {}
    files = list_files(source) if source.is_dir() else iter([source.name])
    source = folder_of(source)
    for file in files:
        if shown(file) != file:
            log.warning("%s/%s: left out, its name is not UTF-8; rename it", source, shown(file))
            continue
        if is_native(file):
            entry, cut = _look_at(source, file), False
            for piece in pieces.cut(source, file, piece_objects):
                cut = True
                yield entry._replace(file=str(piece))
            if not cut:
                yield entry
        elif decoder.channels.is_other(file):
            continue
        elif decoder.channels.several and (channel := decoder.parser.read_name(file).channel) is not None:
            place = decoder.parser.channel_index(channel) or 0
            objects.setdefault(decoder.parser.object_key(file), []).append((place, _look_at(source, file)))
        else:
            yield _look_at(source, file)
    for of_object in objects.values():
        yield _join([entry for _, entry in sorted(of_object)])


def _join(entries: list[Listed]) -> Listed:
    """Return the entry of an object with these files, which is another when any of them is."""
    name = pieces.join(entry.file for entry in entries)
    if any(entry.size == _UNKNOWN for entry in entries):
        return Listed(name, _UNKNOWN, _UNKNOWN)
    return Listed(name, sum(entry.size for entry in entries), sum(entry.mtime_ns for entry in entries) % _MOST_NS)


def _look_at(source: Path, file: str) -> Listed:
    try:
        status = os.stat(f"{source}/{file}")  # noqa: PTH116  a path object for each of a million takes its time
    except OSError:
        return Listed(file, _UNKNOWN, _UNKNOWN)
    return Listed(file, status.st_size, status.st_mtime_ns)


def write(path: Path, files: Iterable[Listed], part_files: int) -> None:
    """Write a listing of parts of `part_files` files."""
    with replacing(path) as partial, pq.ParquetWriter(partial, _SCHEMA) as writer:
        for part in _in_parts(files, part_files):
            _write_part(writer, part)


def read_part(path: Path, part: int) -> list[str]:
    """Return the files of a part."""
    files: list[str] = pq.ParquetFile(path).read_row_group(part).column("file").to_pylist()
    return files


def count(path: Path) -> tuple[int, int]:
    """Return the numbers of files and parts of a listing."""
    # To open it takes as long as it has parts.
    listing = pq.ParquetFile(path)
    metadata = listing.metadata
    # A piece is alone in its part.
    alone = [part for part in range(metadata.num_row_groups) if metadata.row_group(part).num_rows == 1]
    listed = (name for part in alone for name in listing.read_row_group(part, ["file"]).column("file").to_pylist())
    of_pieces = [piece.path for name in listed if (piece := pieces.parse(name))]
    return metadata.num_rows - len(of_pieces) + len(set(of_pieces)), metadata.num_row_groups


def upgrade(path: Path, source: Path, listed_ns: int) -> None:
    """Add sizes and times to the listing of an earlier version, which was made at `listed_ns`.

    A file that was written later is listed as unknown, which no file is like: it has changed.
    """
    listing = pq.ParquetFile(path)
    if listing.schema_arrow.names == _SCHEMA.names:
        return
    with replacing(path) as partial, pq.ParquetWriter(partial, _SCHEMA) as writer:
        for part in range(listing.num_row_groups):
            files = [_look_at(source, file) for file in read_part(path, part)]
            _write_part(
                writer, [entry if entry.mtime_ns <= listed_ns else Listed(entry.file, _UNKNOWN, 0) for entry in files]
            )


def compare(path: Path, present: Iterable[Listed]) -> Changes:
    """Compare the listing at `path` with the files that are `present`; holds the listing in memory."""
    listing = pq.ParquetFile(path)
    known = {
        row[0]: (part, row[1:])
        for part in range(listing.num_row_groups)
        for row in zip(*(column.to_pylist() for column in listing.read_row_group(part).columns), strict=True)
    }
    new, changed, seen = list[Listed](), dict[int, list[Listed]](), 0
    cut, outdated = set[str](), dict[int, list[Listed]]()
    for entry in present:
        seen += 1
        if is_native(file := pieces.file_of(entry.file)):
            cut.add(file)
        if entry.file not in known:
            new.append(entry)
            # Of an object that has got, or lost, a channel since.
            cut.update(pieces.files_of(entry.file))
            continue
        part, before = known.pop(entry.file)
        if before != entry[1:]:
            changed.setdefault(part, []).append(entry)
    for name in [name for name in known if not cut.isdisjoint(pieces.files_of(name))]:
        part, before = known.pop(name)
        outdated.setdefault(part, []).append(Listed(name, *before))
    return Changes(new, changed, sorted({pieces.file_of(name) for name in known}), seen, outdated)


def update(path: Path, changes: Changes, part_files: int) -> None:
    """Put the new and the changed files into parts at the end of the listing, which is replaced in one step."""
    changed = [entry for files in changes.changed.values() for entry in files]
    listing = pq.ParquetFile(path)
    with replacing(path) as partial, pq.ParquetWriter(partial, _SCHEMA) as writer:
        for part in range(listing.num_row_groups):
            gone = [*changes.changed.get(part, []), *changes.outdated.get(part, [])]
            kept = without(listing.read_row_group(part), [entry.file for entry in gone])
            writer.write_table(kept, row_group_size=max(1, len(kept)))
        for added in _in_parts([*changed, *changes.new], part_files):
            _write_part(writer, added)


def _in_parts(files: Iterable[Listed], size: int) -> Iterator[list[Listed]]:
    """Yield the files in parts of `size`; a piece of a native file is a part of its own."""
    for alone, entries in groupby(files, lambda entry: pieces.parse(entry.file) is not None):
        yield from batched(entries, 1 if alone else size)


def without(table: pa.Table, files: list[str]) -> pa.Table:
    """Return the rows of other files than these."""
    names = pa.array(files, pa.string())
    return table.filter(pc.invert(pc.is_in(table.column("file"), names)))


def _write_part(writer: pq.ParquetWriter, files: list[Listed]) -> None:
    columns = dict(zip(Listed._fields, map(list, zip(*files, strict=True)), strict=True))
    writer.write_table(pa.table(columns, _SCHEMA), row_group_size=max(1, len(files)))
