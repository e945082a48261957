"""Read every exported image once, from files into one table and one memory-mapped array.

Only files of the input channel are opened. Files that cannot be used are listed in the quarantine with the reason. So
are files whose path `dataset.pattern` does not match (code `name`), but these do not count as refused cells.
"""

import hashlib
import json
import logging
from array import array
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import compress
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import typer
from tqdm import tqdm

from fatescope.command import OutFolder, ParamsFile, run
from fatescope.config import Dataset, Ingest, load
from fatescope.data.batches import batched
from fatescope.data.dataset import (
    MANIFEST,
    PIXELS,
    QUARANTINE,
    SUMMARY,
    PixelWriter,
    TableWriter,
    read_quarantine,
)
from fatescope.data.folders import fresh_folder
from fatescope.data.paths import PathParser, list_files
from fatescope.errors import DataError
from pipelines.ingestion.duplicates import find_duplicates
from pipelines.ingestion.origin import read_origin
from pipelines.ingestion.reader import Chunk, Reader, read_in_order
from pipelines.ingestion.survey import explain_no_cells

log = logging.getLogger(__name__)

CHUNK = 128
"""Files that one process reads at a time: enough to hide the cost of passing them, few enough to bound memory."""
FILES_PER_WORKER = 5_000
"""Files from which on another process pays: one takes about a second to start, in which these are read."""
_QUARANTINE = pa.schema([("path", pa.string()), ("code", pa.string()), ("reason", pa.string())])


@dataclass(frozen=True)
class Summary:
    """The content of `summary.json`: counts of files and cells."""

    origin: dict[str, Any]
    """The content of `data/origin.json`; empty where there is none."""
    files: int
    """Files below the data folder."""
    unmatched: int
    """Files whose path `dataset.pattern` does not match."""
    other_channels: int
    """Files of channels that the model does not see."""
    left_out: int
    """Files that were left out because `ingest.share` is below 1."""
    refused: dict[str, int]
    """Code of `ImageError` → files that were refused."""
    cells: int
    """Cells in the table."""
    labels: dict[str, int]
    """Class → cells."""
    groups: int
    """Acquisition groups."""
    duplicates: int
    """Cells whose pixels are identical to those of an earlier cell."""
    duplicates_across_groups: int
    """Those whose earlier cell is in another group, which is a leak into the grouped split."""
    data_hash: str
    """SHA-256 over the path and hash of every cell: the version of the data."""


@dataclass(frozen=True)
class FileCounts:
    """Files below the data folder, before any is opened."""

    files: int
    unmatched: int
    other_channels: int
    strata: "array[int]"
    """The stratum, class and group, of each file of the input channel, as a number."""


@dataclass
class CellCounts:
    """Cells and refused files, counted chunk by chunk."""

    labels: Counter[str] = field(default_factory=Counter)
    groups: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    pixel_hashes: "array[int]" = field(default_factory=lambda: array("q"))
    version: Any = field(default_factory=hashlib.sha256)

    def add(self, chunk: Chunk) -> None:
        """Count what is in `chunk`."""
        self.labels.update(map(str, chunk.columns["label"]))
        self.groups.update(map(str, chunk.columns["group"]))
        self.refused.update(code for _, code, _ in chunk.refused)
        self.pixel_hashes.extend(chunk.columns["pixel_hash"])  # type: ignore[arg-type]  # of numbers
        self.version.update("".join(f"{cell}\0{digest}\n" for cell, digest in chunk.identities()).encode())


def ingest(dataset: Dataset, params: Ingest, source: Path, target: Path) -> Summary:
    """Write the cells below `source` to `target`, in the order of their paths.

    Raises DataError where no file is a cell, or more than `params.max_refused_share` of them are refused; the
    quarantine then stays in `TARGET.part`.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; import an export with `make adopt SRC=folder-or-zip`")
    with fresh_folder(target, keep_failed=True) as folder:
        with TableWriter(folder / QUARANTINE, _QUARANTINE) as quarantine:
            files = count_files(dataset, source, quarantine)
            kept = draw_share(files.strata, params)
            paths = _input_paths(dataset, source, kept)
            cells = _write_cells(dataset, params, source, folder, paths, int(kept.sum()), quarantine)
        _check_refused(cells, int(kept.sum()), params.max_refused_share, folder / QUARANTINE)
        summary = _summarise(source, folder, files, cells, left_out=int((~kept).sum()))
        (folder / SUMMARY).write_text(json.dumps(asdict(summary), indent=2) + "\n")
    return summary


def count_files(dataset: Dataset, source: Path, quarantine: TableWriter) -> FileCounts:
    """Count files by what their paths say, and quarantine those that do not match.

    The paths of cells are not kept: those of a million files would be most of the memory that ingest takes.
    """
    parser, strata, numbers = PathParser(dataset), array("l"), dict[tuple[str, str], int]()
    channels, unmatched, files = Counter[str](), list[str](), 0
    for path in list_files(source):
        files += 1
        parsed = parser.read(path)
        if parsed is None:
            unmatched.append(path)
        elif parser.is_input(parsed):
            strata.append(numbers.setdefault((parsed.label, parsed.group), len(numbers)))
        else:
            channels[parsed.facts["channel"]] += 1
    if not strata:
        raise DataError(explain_no_cells(dataset, source, channels, unmatched))
    reason = "dataset.pattern does not match this path"
    quarantine.append({"path": unmatched, "code": ["name"] * len(unmatched), "reason": [reason] * len(unmatched)})
    return FileCounts(files, len(unmatched), channels.total(), strata)


def draw_share(strata: "array[int]", params: Ingest) -> npt.NDArray[np.bool_]:
    """Return which files are kept: `params.share` of each stratum, at least one."""
    kept = np.ones(len(strata), bool)
    if params.share < 1:
        rng, numbers = np.random.default_rng(params.seed), np.frombuffer(strata, np.dtype("l"))
        for stratum in np.unique(numbers):
            rows = np.flatnonzero(numbers == stratum)
            left_out = len(rows) - max(1, round(params.share * len(rows)))
            kept[rng.choice(rows, left_out, replace=False)] = False
    return kept


def _input_paths(dataset: Dataset, source: Path, kept: npt.NDArray[np.bool_]) -> Iterator[str]:
    """Yield the paths of the input channel that are `kept`, in the order in which `count_files` met them."""
    parser = PathParser(dataset)
    matched = (path for path in list_files(source) if (parsed := parser.read(path)) and parser.is_input(parsed))
    return compress(matched, kept)


def _write_cells(
    dataset: Dataset,
    params: Ingest,
    source: Path,
    folder: Path,
    paths: Iterator[str],
    files: int,
    quarantine: TableWriter,
) -> CellCounts:
    """Read the files at `paths`, of which there are `files`, and write their cells into `folder`."""
    counts, reader = CellCounts(), Reader(dataset, params.canvas, int(params.max_megapixels * 1e6), source)
    workers = max(1, min(params.workers, files // FILES_PER_WORKER))
    with (
        TableWriter(folder / MANIFEST) as manifest,
        PixelWriter(folder / PIXELS, params.canvas) as pixels,
        tqdm(total=files, desc="ingest", unit="file", delay=1) as bar,
    ):
        for chunk in read_in_order(reader.read, batched(paths, CHUNK), workers):
            if len(chunk.pixels):
                manifest.append(dict(chunk.columns))
                pixels.append(chunk.pixels)
            if chunk.refused:
                columns = map(list, zip(*chunk.refused, strict=True))
                quarantine.append(dict(zip(_QUARANTINE.names, columns, strict=True)))
            counts.add(chunk)
            bar.update(chunk.files)
    return counts


def _check_refused(cells: CellCounts, files: int, limit: float, quarantine: Path) -> None:
    """Raise DataError where too many of the `files` that were read were refused."""
    refused = cells.refused.total()
    for code, count in cells.refused.items():
        log.warning("%s: refused %d of %d files: %s", quarantine.name, count, files, code)
    if refused > limit * files or not cells.pixel_hashes:
        examples = "\n".join(f"  {line}" for line in read_quarantine(quarantine, cells.refused))
        raise DataError(
            f"{refused} of {files} files were refused ({refused / files:.1%}), more than ingest.max_refused_share "
            f"({limit:.1%}); correct or remove them, or raise the share. All are listed in {quarantine}; for example:\n"
            f"{examples}"
        )


def _summarise(source: Path, folder: Path, files: FileCounts, cells: CellCounts, left_out: int) -> Summary:
    duplicates, across = _count_duplicates(folder, cells.pixel_hashes)
    return Summary(
        origin=read_origin(source),
        files=files.files,
        unmatched=files.unmatched,
        other_channels=files.other_channels,
        left_out=left_out,
        refused=dict(cells.refused),
        cells=len(cells.pixel_hashes),
        labels=dict(sorted(cells.labels.items())),
        groups=len(cells.groups),
        duplicates=duplicates,
        duplicates_across_groups=across,
        data_hash=cells.version.hexdigest(),
    )


def _count_duplicates(folder: Path, hashes: "array[int]") -> tuple[int, int]:
    """Return how many cells have the pixels of an earlier cell, and how many those of one in another group."""
    later, first = find_duplicates(hashes)
    if not len(later):
        return 0, 0
    # As numbers, because a million names of groups would take far more memory.
    table = pq.read_table(folder / MANIFEST, columns=["group"], read_dictionary=["group"])
    groups = table.column("group").unify_dictionaries().combine_chunks().indices.to_numpy()
    return len(later), int((groups[later] != groups[first]).sum())


def main(
    params: ParamsFile,
    source: Annotated[Path, typer.Option("--data", help="Folder of exported cells.")],
    target: OutFolder,
) -> None:
    """Read every exported cell once, into one table and one array."""
    settings = load(params)
    summary = ingest(settings.dataset, settings.ingest, source, target)
    log.info("%d cells in %d groups: %s", summary.cells, summary.groups, summary.labels)
    if summary.unmatched:
        log.warning("%d files do not match dataset.pattern; see %s", summary.unmatched, target / QUARANTINE)
    if summary.duplicates:
        log.warning(
            "%d cells have the pixels of another cell, %d of them in another group",
            summary.duplicates,
            summary.duplicates_across_groups,
        )


if __name__ == "__main__":
    run(main)
