"""Rows of Parquet files: records, windows of incidents, what `ingest` and `fatescope score` wrote."""

import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope import plural
from fatescope.atomic import replacing
from fatescope.data.dataset import MANIFEST, PIXELS
from fatescope.data.folders import fresh_folder
from fatescope.file_hash import sha256
from fatescope.forgetting.selection import Found, Selection
from fatescope.inference import label_queue
from fatescope.inference.names import cell_id

CELL = "cell_id"
PIXELS_OF = ("pixel_hash", "image_hash")
"""Columns with a hash of the pixels: of the manifest, and of a prediction log that has one."""
PATHS, HASHES, SAMPLES, REQUESTS = ("path", "file", CELL), ("sha256", "image_sha256"), ("group", "sample"), (
    "request_id",
)  # fmt: skip
"""Columns of tables that name a cell."""
_FRESH_S = 60.0
_ROWS = 65_536
_CELLS = 4096


def _parquet_files(folder: Path) -> Iterator[Path]:
    """Yield the tables below a folder, but those of bundles, and what is being written."""
    for path in sorted(folder.rglob("*.parquet")):
        parts = path.relative_to(folder).parts
        if "bundle" not in parts and "model" not in parts[:-1] and not any(part.startswith(".") for part in parts):
            yield path


def _selected(table: pa.Table, selection: Selection) -> npt.NDArray[np.bool_]:
    """Return for each row whether one of its columns is selected."""
    chosen = np.zeros(len(table), bool)
    for columns, test in (
        (REQUESTS, selection.requests.__contains__),
        (SAMPLES, selection.samples.__contains__),
        (HASHES, selection.hashes.__contains__),
        (PIXELS_OF, selection.pixels.__contains__),
        (PATHS, lambda value: value in selection.cells or selection.has_path(value)),
    ):
        for name in columns:
            if name in table.column_names:
                values = table[name].to_pylist()
                known = {value: test(str(value)) for value in set(values) if value is not None}
                chosen |= np.fromiter((known.get(value, False) for value in values), bool, len(values))
    if selection.answers or selection.requests:
        chosen |= np.fromiter(map(selection.has_answer, _answers(table)), bool, len(table))
    return chosen


def _answers(table: pa.Table) -> list[str]:
    """Return for each row the id that its cell has in an answer, an empty text where it says none."""
    columns = table.column_names
    # That of a challenger is a row of a call, not the number of a cell.
    if "cell" not in columns or "challenger" in columns:
        return [""] * len(table)
    cells = table["cell"].to_pylist()
    if REQUESTS[0] not in columns:
        # Of the queue; a number alone, as of an object in a file, is none.
        return [cell if isinstance(cell, str) else "" for cell in cells]
    requests = table[REQUESTS[0]].to_pylist()
    return [cell_id(request, cell) if request else "" for request, cell in zip(requests, cells, strict=True)]


def _rows(path: Path) -> Iterator[pa.Table]:
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS):
            yield pa.Table.from_batches([batch])


def find(name: str, folder: Path, selection: Selection) -> Found:
    """Return which rows of the tables below `folder`, the place called `name`, are selected."""
    items, selected, examples, digest = 0, 0, list[str](), hashlib.sha256()
    known, answers = {name: set[str]() for name in (*HASHES, *PIXELS_OF, CELL)}, set[str]()
    for path in _parquet_files(folder):
        try:
            digest.update(str(path.relative_to(folder)).encode() + sha256(path).encode())
            for table in _rows(path):
                chosen = _selected(table, selection)
                items += len(table)
                if not (count := int(chosen.sum())):
                    continue
                selected += count
                examples.append(f"{path}: {plural.count(count, 'row')}")
                for column, values in known.items():
                    if column in table.column_names:
                        rows = table[column].filter(pa.array(chosen)).to_pylist()
                        values.update(str(value) for value in rows if value is not None)
                answers.update(filter(None, _answers(table.filter(pa.array(chosen)))))
        except FileNotFoundError:  # the service has deleted it after the retention time
            continue
    hashes, pixels = (frozenset().union(*(known[column] for column in columns)) for columns in (HASHES, PIXELS_OF))
    return Found(
        name, items, selected, hashes, frozenset(known[CELL]), pixels, frozenset(answers), tuple(examples),
        digest.hexdigest(),
    )  # fmt: skip


def remove(folder: Path, selection: Selection) -> None:
    """Delete the rows that are selected, with their pixels, from the tables below a folder."""
    with ExitStack() as stack:
        # A batch that is drawn meanwhile would have rows that are gone.
        for queue in sorted(folder.glob(f"*/{label_queue.FOLDER}")):
            stack.enter_context(label_queue.locked(queue))
        _thin_tables(folder, selection)


def _thin_tables(folder: Path, selection: Selection) -> None:
    for path in _parquet_files(folder):
        try:
            kept = np.concatenate([[], *(~_selected(table, selection) for table in _rows(path))]).astype(bool)
            if kept.all():
                continue
            if path.name == MANIFEST and (path.parent / PIXELS).exists():
                _remove_cells(path.parent, kept)
            else:
                _rewrite(path, path, kept)
        except FileNotFoundError:
            continue


def _rewrite(path: Path, target: Path, kept: npt.NDArray[np.bool_]) -> None:
    """Replace a table by its rows that are `kept`; its time of change stays, after which it is deleted."""
    status, start = path.stat(), 0
    with replacing(target) as part:
        with pq.ParquetFile(path) as file, pq.ParquetWriter(part, file.schema_arrow, compression="zstd") as writer:
            for number in range(file.num_row_groups):
                table = file.read_row_group(number)
                writer.write_table(table.filter(pa.array(kept[start : start + len(table)])))
                start += len(table)
        os.utime(part, ns=(status.st_atime_ns, status.st_mtime_ns))


def _remove_cells(folder: Path, kept: npt.NDArray[np.bool_]) -> None:
    """Replace the cells that `ingest` wrote by those that are `kept`: their pixels are in the order of the manifest."""
    pixels = np.load(folder / PIXELS, mmap_mode="r")
    rows = np.flatnonzero(kept)
    with fresh_folder(folder) as fresh:
        for path in folder.rglob("*"):
            if path.is_file() and path.name not in (MANIFEST, PIXELS):
                target = fresh / path.relative_to(folder)
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(path.read_bytes())
        _rewrite(folder / MANIFEST, fresh / MANIFEST, kept)
        written = np.lib.format.open_memmap(fresh / PIXELS, "w+", pixels.dtype, (len(rows), *pixels.shape[1:]))
        for start in range(0, len(rows), _CELLS):
            written[start : start + _CELLS] = pixels[rows[start : start + _CELLS]]
        written.flush()
        del written


def are_written_to(records: Path) -> bool:
    """Return whether a service has written records in the last minute."""
    newest = 0.0
    for path in records.glob("*/*.parquet"):
        try:
            newest = max(newest, path.stat().st_mtime)
        except FileNotFoundError:
            continue
    return time.time() - newest < _FRESH_S
