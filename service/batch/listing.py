"""The listing of a batch job: which file is in which part, and what has changed in the source since.

Row group i of `files.parquet` is part i. A file keeps its part for as long as it stays as it is; one that is new, or
changed, goes to a part at the end. So the parts that are done stay done, also while the source grows.
"""

import logging
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fatescope.atomic import replacing
from fatescope.data.batches import batched
from fatescope.data.paths import list_files, shown
from service.inference.decoding import CellDecoder

log = logging.getLogger(__name__)

_SCHEMA = pa.schema([("file", pa.string()), ("size", pa.int64()), ("mtime_ns", pa.int64())])
_UNKNOWN = -1
"""Size and time of a file that cannot be looked at, such as a link to nowhere."""


class Listed(NamedTuple):
    """A file as it was when the source was listed."""

    file: str
    """Path below the source, with `/`."""
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


def look(source: Path, decoder: CellDecoder) -> Iterator[Listed]:
    """Yield the files below `source`, without those of channels that the model does not use.

    A name that is not UTF-8 is left out and named, because no table can hold it.
    """
    for file in list_files(source):
        if shown(file) != file:
            log.warning("%s/%s: left out, its name is not UTF-8; rename it", source, shown(file))
            continue
        if not decoder.is_other_channel(file):
            yield _look_at(source, file)


def _look_at(source: Path, file: str) -> Listed:
    try:
        status = os.stat(f"{source}/{file}")  # noqa: PTH116  a path object for each of a million takes its time
    except OSError:
        return Listed(file, _UNKNOWN, _UNKNOWN)
    return Listed(file, status.st_size, status.st_mtime_ns)


def write(path: Path, files: Iterable[Listed], part_files: int) -> None:
    """Write a listing of parts of `part_files` files."""
    with replacing(path) as partial, pq.ParquetWriter(partial, _SCHEMA) as writer:
        for part in batched(files, part_files):
            _write_part(writer, part)


def read_part(path: Path, part: int) -> list[str]:
    """Return the files of a part."""
    files: list[str] = pq.ParquetFile(path).read_row_group(part).column("file").to_pylist()
    return files


def count(path: Path) -> tuple[int, int]:
    """Return the numbers of files and parts of a listing."""
    metadata = pq.read_metadata(path)
    return metadata.num_rows, metadata.num_row_groups


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
    for entry in present:
        seen += 1
        if entry.file not in known:
            new.append(entry)
            continue
        part, before = known.pop(entry.file)
        if before != entry[1:]:
            changed.setdefault(part, []).append(entry)
    return Changes(new, changed, sorted(known), seen)


def update(path: Path, changes: Changes, part_files: int) -> None:
    """Put the new and the changed files into parts at the end of the listing, which is replaced in one step."""
    changed = [entry for files in changes.changed.values() for entry in files]
    listing = pq.ParquetFile(path)
    with replacing(path) as partial, pq.ParquetWriter(partial, _SCHEMA) as writer:
        for part in range(listing.num_row_groups):
            kept = without(listing.read_row_group(part), changes.changed.get(part, []))
            writer.write_table(kept, row_group_size=max(1, len(kept)))
        for added in batched([*changed, *changes.new], part_files):
            _write_part(writer, added)


def without(table: pa.Table, files: list[Listed]) -> pa.Table:
    """Return the rows of other files than these."""
    names = pa.array([entry.file for entry in files], pa.string())
    return table.filter(pc.invert(pc.is_in(table.column("file"), names)))


def _write_part(writer: pq.ParquetWriter, files: list[Listed]) -> None:
    columns = dict(zip(Listed._fields, map(list, zip(*files, strict=True)), strict=True))
    writer.write_table(pa.table(columns, _SCHEMA), row_group_size=max(1, len(files)))
