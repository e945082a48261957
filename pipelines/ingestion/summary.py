"""What ingest counts: `summary.json`."""

import hashlib
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from fatescope.config.names import ChannelKind
from fatescope.data.dataset import MANIFEST
from fatescope.data.sidecar import Labels
from pipelines.ingestion.duplicates import find_duplicates
from pipelines.ingestion.files import FileCounts
from pipelines.ingestion.origin import read_origin
from pipelines.ingestion.reader import Chunk


@dataclass(frozen=True)
class Summary:
    """The content of `summary.json`: counts of files and cells."""

    origin: dict[str, Any]
    """The content of `data/origin.json`; empty where there is none."""
    files: int
    """Files below the data folder."""
    unmatched: int
    """Files whose path `dataset.pattern` does not match, and native files of which nothing says the class."""
    unreadable: int
    """Paths below the data folder that are no file which could be opened, such as links that lead nowhere."""
    other_channels: int
    """Files of channels that the model does not see."""
    left_out: int
    """Files that were left out because `ingest.share` is below 1."""
    refused: dict[str, int]
    """Code of `ImageError` → files, and objects of native files, that were refused."""
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
    """SHA-256 over the path and hash of every cell, and what sidecars say of them: the version of the data."""
    channels: dict[str, ChannelKind] | None = None
    """Channel → kind, in the order of the pixels of a cell; null where paths name no channel."""


@dataclass
class CellCounts:
    """Cells and refused files, counted chunk by chunk."""

    labels: Counter[str] = field(default_factory=Counter)
    groups: set[str] = field(default_factory=set)
    refused: Counter[str] = field(default_factory=Counter)
    pixel_hashes: "array[int]" = field(default_factory=lambda: array("q"))
    version: Any = field(default_factory=hashlib.sha256)

    def add_labels(self, labels: Labels) -> None:
        """Make `labels`, of sidecars, a part of the version; without any, the version is that of the cells alone."""
        for path, row in sorted(labels.items()):
            self.version.update(f"{path}\0{row.label}\0{row.group}\n".encode())

    def add(self, chunk: Chunk) -> None:
        """Count what is in `chunk`."""
        self.labels.update(map(str, chunk.columns["label"]))
        self.groups.update(map(str, chunk.columns["group"]))
        self.refused.update(code for _, code, _ in chunk.refused)
        if chunk.lost:
            self.refused[chunk.refused[-1][1]] += chunk.lost
        self.pixel_hashes.extend(chunk.columns["pixel_hash"])
        self.version.update("".join(f"{cell}\0{digest}\n" for cell, digest in chunk.identities()).encode())


def summarise(
    source: Path,
    folder: Path,
    files: FileCounts,
    cells: CellCounts,
    left_out: int,
    channels: dict[str, ChannelKind] | None,
) -> Summary:
    """Return the summary of the cells from `source` that were written into `folder`."""
    duplicates, across = _count_duplicates(folder, cells.pixel_hashes)
    return Summary(
        origin=read_origin(source),
        files=files.files,
        unmatched=len(files.unmatched) + len(files.unlabelled),
        unreadable=len(files.unreadable),
        other_channels=files.other_channels,
        left_out=left_out,
        refused=dict(cells.refused),
        cells=len(cells.pixel_hashes),
        labels=dict(sorted(cells.labels.items())),
        groups=len(cells.groups),
        duplicates=duplicates,
        duplicates_across_groups=across,
        data_hash=cells.version.hexdigest(),
        channels=channels,
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
