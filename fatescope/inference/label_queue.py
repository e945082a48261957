"""The queue of cells that a person is asked to label.

A batch is drawn from the newest predictions of a version (`labelling.draw`) and kept as
`RECORDS/TASK/queue/TIME-VERSION-TOKEN.parquet`, so that labels find their prediction however late they come: the
prediction log is deleted sooner. Rows are in the order in which the cells are to be labelled. Columns: `cell` (the id
that the answer of the service had), `image_hash`, `time`, `label` and `verdict` as they were answered, `p_CLASS`,
`q_CLASS` (the probability in the mixture of the batch), and `size` (how often such a cell is drawn).

Labels (`fatescope.inference.labels`) count up to the first cell of a batch that has none: whoever labels what is easy
and leaves out the rest would make the model look better.
"""

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope import plural
from fatescope.atomic import replacing
from fatescope.data.statements import Settled
from fatescope.errors import DataError
from fatescope.file_cache import FileCache
from fatescope.inference import accuracy, labelling
from fatescope.inference.evidence import Answers
from fatescope.inference.labelling import Labelled
from fatescope.inference.labels import Labels
from fatescope.inference.names import cell_id, cell_of
from fatescope.inference.record_files import read_newest

FOLDER = "queue"
CELLS, DRAWN = 500, 100
"""Newest cells from which a batch is drawn, and the most that are drawn."""
MIN_CELLS = 100
"""Cells since the last batch that the next one needs."""
UNLABELLED, UNTOLD = -2, -1
"""In place of a class: nobody has said anything; a person could not tell."""
COLUMNS = ("cell", "image_hash", "request_id", "time", "label", "verdict")
"""Of the prediction log that are read; the files of earlier versions lack the first two."""
_KEY = b"fatescope"

Floats = npt.NDArray[np.floating]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Batch:
    """Cells that were drawn together."""

    name: str
    version: str
    classes: list[str]
    cells: int
    """Cells from which they were drawn."""
    following: float
    """Key of the cell that would have been drawn next."""
    until: pd.Timestamp
    """Time of the newest of those cells."""
    table: Floats
    """(K, K) as in `accuracy.Expected`."""
    variance: float
    """Of the balanced accuracy that is expected without labels, by the chance of the cells."""
    rows: pd.DataFrame
    """As the file has them."""

    def targets(self, labels: Labels) -> Indices:
        """Return the (m,) index of the class of each cell, UNLABELLED or UNTOLD."""
        places = {name: place for place, name in enumerate(self.classes)}
        return np.array(
            [UNLABELLED if each is None else places.get(each.label, UNTOLD) for each in self._settled(labels)], np.int64
        )  # fmt: skip

    def waiting(self, labels: Labels) -> pd.DataFrame:
        """Return the rows of the cells that have no label, in their order."""
        return self._chosen(self.targets(labels) == UNLABELLED)

    def disputed(self, labels: Labels) -> pd.DataFrame:
        """Return the rows of the cells on whose label people disagree, in their order."""
        return self._chosen(np.array([each is not None and each.disputed for each in self._settled(labels)], bool))

    def _chosen(self, rows: npt.NDArray[np.bool_]) -> pd.DataFrame:
        chosen: pd.DataFrame = self.rows.loc[rows]
        return chosen

    def _settled(self, labels: Labels) -> list[Settled | None]:
        cells = zip(self.rows["cell"], self.rows["image_hash"], strict=True)
        return [labels.settle([cell], [pixels]) for cell, pixels in cells]

    def first(self, labels: Labels) -> Indices:
        """Return the classes of the cells before the first one that has no label."""
        targets = self.targets(labels)
        return targets[: int(np.argmax(targets == UNLABELLED))] if (targets == UNLABELLED).any() else targets

    def answers(self, targets: Indices) -> Answers:
        """Return what the first cells, of these classes, say as evidence."""
        head = self.rows.iloc[: len(targets)]
        return Answers(self._predicted(head), targets, head["size"].to_numpy(float), self.cells)

    def estimate(self, targets: Indices) -> Labelled | None:
        """Return the balanced accuracy of all cells of the batch, of which the first have these classes."""
        count = len(targets)
        head = self.rows.iloc[:count]
        following = float(self.rows["key"].iloc[count]) if count < len(self.rows) else self.following
        posteriors = head[[f"q_{name}" for name in self.classes]].to_numpy(float)
        sizes = head["size"].to_numpy(float)
        return labelling.from_labels(posteriors, self._predicted(head), targets, sizes, following, self.table)

    def _predicted(self, rows: pd.DataFrame) -> Indices:
        predicted: Indices = rows[[f"p_{name}" for name in self.classes]].to_numpy(float).argmax(1)
        return predicted


def draw_batch(
    records: Path,
    task: str,
    version: str,
    prior: Floats,
    *,
    count: int = DRAWN,
    cells: int = CELLS,
    rng: np.random.Generator | None = None,
) -> Batch:
    """Draw up to `count` of the newest `cells` that no earlier batch was drawn from, and keep them.

    Nobody can foresee which are drawn, unless `rng` is given. Raises DataError where there are fewer than
    MIN_CELLS of these.
    """
    folder = records / task / FOLDER
    with locked(folder):
        batches = read_batches(records, task, version)
        since = batches[-1].until if batches else None
        table = read_newest(records / task, version, cells, COLUMNS, since)
        if len(table):
            # A cell that was asked for twice, such as for its activation map, is one cell.
            table = table.drop_duplicates("image_hash", ignore_index=True)
        if len(table) < MIN_CELLS:
            were = plural.count(len(table), "cell was", "cells were")
            raise DataError(
                f"{task}: {were} recorded since the last batch was drawn, and {MIN_CELLS} are needed; "
                "cells are recorded some 10 s after they are classified"
            )
        names = [name for name in table.columns if name.startswith("p_")]
        expected, variance = accuracy.expect_with_variance(table[names].to_numpy(float), prior)
        drawn = labelling.draw(expected, count, rng or np.random.default_rng())
        posteriors = pd.DataFrame(expected.posteriors, columns=[f"q_{name.removeprefix('p_')}" for name in names])
        rows = pd.concat([table, posteriors], axis=1).iloc[drawn.rows].reset_index(drop=True)
        rows = rows.assign(
            cell=[cell_id(*row) for row in zip(rows["request_id"], rows["cell"], strict=True)],
            size=drawn.sizes,
            key=drawn.keys[:-1],
        )
        following = float(drawn.keys[-1])
        batch = Batch(
            # With microseconds, so that the names of batches drawn within one second are in their order.
            f"{datetime.now(UTC):%Y%m%dT%H%M%S%f}-{version}-{uuid4().hex[:8]}",
            version, [name.removeprefix("p_") for name in names], len(table),
            following, table["time"].max(), expected.table, variance, rows.drop(columns="request_id"),
        )  # fmt: skip
        _write(folder, batch)
    return batch


def read_batches(records: Path, task: str, version: str) -> list[Batch]:
    """Return the batches of a version, the oldest first; they are shared by all callers, and must not be changed.

    A file is read once: it stays as it is, unless a sample is forgotten (`fatescope.forgetting`), which replaces it.
    """
    folder = records / task / FOLDER
    return _files.read((folder, version), sorted(folder.glob(f"*-{version}-*.parquet")))


def is_drawn(records: Path, task: str, version: str, cell: str) -> bool:
    """Return whether a cell, the id of an answer, is in a batch of a version."""
    named = cell_of(cell)
    return any((batch.rows["cell"] == named).any() for batch in read_batches(records, task, version))


def names_of(
    records: Path | None, task: str, version: str, cell: str | None, pixels: int | None
) -> tuple[set[str], set[int]]:
    """Return all ids and hashes of pixels of a cell, of which one is given: the batches of a version know both."""
    cells = set() if cell is None else {cell_of(cell)}
    hashes = set() if pixels is None else {pixels}
    for batch in read_batches(records, task, version) if records else ():
        same = batch.rows["cell"].isin(cells) | batch.rows["image_hash"].isin(hashes)
        if same.any():
            cells |= set(batch.rows.loc[same, "cell"])
            hashes |= set(batch.rows.loc[same, "image_hash"].tolist())
    return cells, hashes


def _write(folder: Path, batch: Batch) -> None:
    facts = {
        "version": batch.version,
        "classes": batch.classes,
        "cells": batch.cells,
        # JSON has no infinity.
        "following": batch.following if np.isfinite(batch.following) else None,
        "until": batch.until.isoformat(),
        "table": batch.table.tolist(),
        "variance": batch.variance,
    }
    with replacing(folder / f"{batch.name}.parquet") as part:
        write_table(batch.rows, part, facts)


def newest_batch(records: Path, task: str) -> Batch | None:
    """Return the newest batch of a task, of any version; None where there is none."""
    paths = sorted((records / task / FOLDER).glob("*.parquet"))
    return _read(paths[-1]) if paths else None


def write_table(rows: pd.DataFrame, path: Path, facts: Mapping[str, Any] | None = None) -> None:
    """Write rows with a column `time` in UTC as Parquet, with `facts` in its metadata."""
    times = rows["time"].dt.tz_convert(None).to_numpy().astype("datetime64[us]").astype(np.int64)
    columns = {name: rows[name].to_numpy() for name in rows.columns if name != "time"}
    table = pa.table(columns | {"time": pa.array(times, pa.timestamp("us", tz="UTC"))})
    pq.write_table(table.replace_schema_metadata({_KEY: json.dumps(facts).encode()}), path)


def _read(path: Path) -> Batch:
    table = pq.read_table(path)
    facts: dict[str, Any] = json.loads(table.schema.metadata[_KEY])
    return Batch(
        path.stem,
        facts["version"],
        facts["classes"],
        facts["cells"],
        np.inf if facts["following"] is None else facts["following"],
        pd.Timestamp(facts["until"]),
        np.array(facts["table"]),
        facts["variance"],
        table.to_pandas(),
    )


_files = FileCache(_read)


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep others from drawing a batch into the `folder` of a task, or from taking rows out of one."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
