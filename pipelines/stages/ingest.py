"""Read every exported image once, from files into one table and one memory-mapped array.

A native file of an instrument (.cif, .rif) holds many cells, see `pipelines.ingestion.native_cells`; what it says of
their acquisition is in columns `native_…`, see `pipelines.ingestion.native_reader`, which are absent where there is no
such file; images that IDEAS exported say some of it too. Of other files, only those of channels that the model sees are
opened; where it sees several, those of one object, whose paths differ in the channel alone, are one cell, and an object
without one of them is refused. Files that cannot be used are listed in the quarantine with the reason. So are files
whose path `dataset.pattern` does not match (code `name`), and what is no file that can be opened, such as a link that
leads nowhere (code `unreadable`), but these do not count as refused cells. What `fatescope_labels.csv` says of an image
(`fatescope.data.sidecar`) holds instead of what its path says.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import pyarrow as pa
import typer
from tqdm import tqdm

from fatescope import plural
from fatescope.command import OutFolder, ParamsFile, run
from fatescope.config import Dataset, Ingest, load
from fatescope.data import instruments
from fatescope.data.dataset import (
    MANIFEST,
    PIXELS,
    QUARANTINE,
    SUMMARY,
    PixelWriter,
    TableWriter,
    read_quarantine,
)
from fatescope.data.export_folder import read_labels
from fatescope.data.folders import fresh_folder
from fatescope.errors import DataError
from pipelines.ingestion.files import UNREADABLE, Job, Refusal, count_files, draw_share, input_jobs
from pipelines.ingestion.native_reader import carries_facts
from pipelines.ingestion.reader import Reader
from pipelines.ingestion.summary import CellCounts, Summary, summarise
from pipelines.ingestion.workers import read_in_order

log = logging.getLogger(__name__)

CHUNK = 128
"""Files, or objects of a native file, that one process reads at a time: enough to hide the cost of passing them, few
enough to bound memory."""
FILES_PER_WORKER = 5_000
"""Files from which on another process pays: one takes about a second to start, in which these are read."""
EXAMPLES = 500
"""Images that are looked at for facts of the acquisition, one of each class and group: a moment's work."""
_QUARANTINE = pa.schema([("path", pa.string()), ("code", pa.string()), ("reason", pa.string())])


def ingest(dataset: Dataset, params: Ingest, source: Path, target: Path) -> Summary:
    """Write the cells below `source` to `target`, in the order of their paths.

    Raises DataError where no file is a cell, or more than `params.max_refused_share` of them are refused; the
    quarantine then stays in `TARGET.part`.
    """
    if not source.is_dir():
        raise DataError(f"{source}: no such folder; import an export with `fatescope data import SRC`")
    with fresh_folder(target, keep_failed=True) as folder:
        with TableWriter(folder / QUARANTINE, _QUARANTINE) as quarantine:
            labels = read_labels(source)
            files = count_files(dataset, source, labels)
            _quarantine_unmatched(files.unmatched, quarantine)
            _quarantine_refused([*files.unlabelled, *files.unreadable], quarantine)
            kept = draw_share(files.strata, files.tracks, params)
            jobs = input_jobs(dataset, source, files, kept, CHUNK)
            most_pixels = int(params.max_megapixels * 1e6)
            facts = bool(files.native) or carries_facts(source, files.examples[:EXAMPLES])
            reader = Reader(dataset, params.canvas, most_pixels, source, labels, native=facts)
            cells = _write_cells(reader, params.workers, folder, jobs, int(kept.sum()), quarantine)
        _check_refused(cells, int(kept.sum()), params.max_refused_share, folder / QUARANTINE)
        summary = summarise(source, folder, files, cells, int((~kept).sum()), dataset.channels)
        (folder / SUMMARY).write_text(json.dumps(asdict(summary), indent=2) + "\n", encoding="utf-8")
    return summary


def _quarantine_unmatched(paths: list[str], quarantine: TableWriter) -> None:
    reasons = [instruments.explain(path) or "dataset.pattern does not match this path" for path in paths]
    quarantine.append({"path": paths, "code": ["name"] * len(paths), "reason": reasons})


def _quarantine_refused(refused: list[Refusal], quarantine: TableWriter) -> None:
    if refused:
        columns = map(list, zip(*refused, strict=True))
        quarantine.append(dict(zip(_QUARANTINE.names, columns, strict=True)))


def _write_cells(
    reader: Reader,
    most_workers: int,
    folder: Path,
    jobs: Iterator[Job],
    files: int,
    quarantine: TableWriter,
) -> CellCounts:
    """Read the `jobs`, of `files` files and objects together, and write their cells into `folder`."""
    counts = CellCounts()
    counts.add_labels(reader.labels)
    # Also a few files are read by another process, which they may crash; a person who asks for 1 wants to see that.
    workers = max(1, min(most_workers, files // FILES_PER_WORKER)) if most_workers > 1 else 0
    with (
        TableWriter(folder / MANIFEST) as manifest,
        PixelWriter(folder / PIXELS, reader.shape) as pixels,
        tqdm(total=files, desc="ingest", unit="file", delay=1) as bar,
    ):
        for chunk in read_in_order(reader, jobs, workers):
            if len(chunk.pixels):
                manifest.append(dict(chunk.columns))
                pixels.append(chunk.pixels)
            _quarantine_refused(chunk.refused, quarantine)
            counts.add(chunk)
            bar.update(chunk.files)
    return counts


def _check_refused(cells: CellCounts, files: int, limit: float, quarantine: Path) -> None:
    """Raise DataError where too many of the `files` that were read were refused."""
    refused = cells.refused.total()
    for code, count in cells.refused.items():
        log.warning("%s: refused %d of %s: %s", quarantine.name, count, plural.count(files, "file"), code)
    if refused > limit * files or not cells.pixel_hashes:
        examples = "\n".join(f"  {line}" for line in read_quarantine(quarantine, cells.refused))
        of_all, were = plural.count(files, "file"), plural.agree(refused, "was", "were")
        raise DataError(
            f"{refused:,} of {of_all} {were} refused ({refused / files:.1%}), more than ingest.max_refused_share "
            f"({limit:.1%}); correct or remove them, or raise the share. All are listed in {quarantine}; for example:\n"
            f"{examples}"
        )


def main(
    params: ParamsFile,
    source: Annotated[Path, typer.Option("--data", help="Folder of exported cells.")],
    target: OutFolder,
) -> None:
    """Read every exported cell once, into one table and one array."""
    settings = load(params)
    summary = ingest(settings.dataset, settings.ingest, source, target)
    cells, groups = plural.count(summary.cells, "cell"), plural.count(summary.groups, "group")
    log.info("%s in %s: %s", cells, groups, summary.labels)
    if summary.unmatched:
        files_do = plural.count(summary.unmatched, "file does", "files do")
        log.warning("%s not match dataset.pattern; see %s", files_do, target / QUARANTINE)
    if summary.unreadable:
        reasons = read_quarantine(target / QUARANTINE, [UNREADABLE])
        paths = plural.count(summary.unreadable, "path")
        log.warning("%s cannot be read, such as:\n  %s", paths, "\n  ".join(reasons))
    if summary.duplicates:
        log.warning(
            "%s the pixels of another cell, %d of them in another group",
            plural.count(summary.duplicates, "cell has", "cells have"),
            summary.duplicates_across_groups,
        )


if __name__ == "__main__":
    run(main)
