"""The prediction log: one row per prediction, from which `monitoring` computes drift. It holds no pixels.

Files are Parquet, `FOLDER/TASK/TIME-VERSION-PROCESS-NUMBER-TOKEN.parquet`, of up to MAX_ROWS rows or MAX_AGE_S seconds;
they appear complete, and are deleted after the retention time. Columns: `time` (UTC), `request_id`, `key` (the name of
the API key, empty where none is asked for), `cell` (its number among the classified cells of the request), `image_hash`
(`crops.pixel_hash` of the image as it was sent), `version`, `label`, `verdict`, `distance`, `height`, `width`,
`bit_depth`, the features of `features.ACQUISITION`, `e0` and on (components of the embedding) and `p_CLASS`; where
files of some cells say how they were acquired, what they say that `fatescope.data.acquisition_facts` has, which is
neither of people nor of a day or an object.

In `FOLDER/TASK/shadow` is what a challenger answered to the same cells (`fatescope.inference.shadow_records`).

Requests only queue their cells; a thread has the features of many cells computed at a time
(`service.inference.recorded_cells`), and drops the pixels. Another one deletes what is too old. Several gateways may do
both in one folder.
"""

import contextlib
import itertools
import math
import os
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from fatescope import plural, retention
from fatescope.errors import FatescopeError
from fatescope.inference.uncertainty import Assessment
from service import background
from service.background import Worker
from service.inference import metrics, recorded_cells
from service.inference.decoded_cell import DecodedCell
from service.inference.prediction_rows import Describe, Entry, Version, by_version, tabulate
from service.inference.requester import key_name
from service.inference.runner_output import RunnerOutput
from service.inference.served_model import ServedModel

MAX_ROWS, MAX_AGE_S = 5_000, 10.0
"""A file is written once there are so many rows, or the oldest of them is so old."""
TABULATED_ROWS = 256
"""So many queued rows are made into a table: their pixels are dropped while the caches of the processor have them."""
MAX_QUEUED_ROWS = 50_000
"""If the disk cannot keep up, rows beyond these are counted as lost rather than kept in memory."""
EXPIRY_INTERVAL_S = 3600.0
"""Time between two searches for files that are too old."""
_IDLE_S = 10.0
"""Time after which the recording thread says that it lives, where there is nothing to write."""
_SECONDS_PER_DAY = 86_400

Mirror = Callable[[str, ServedModel, list[DecodedCell], RunnerOutput, Assessment], None]


class RecordingError(FatescopeError):
    """Predictions could not be written."""


class PredictionLog:
    """Writes the predictions of one process; `add` may be called from any thread."""

    def __init__(
        self,
        folder: Path | None,
        retention_days: float,
        mirror: Mirror | None = None,
        describe: Describe = recorded_cells.describe,
    ) -> None:
        """`folder` None writes nothing; `mirror` is given the same cells, and must return at once."""
        self._mirror, self._describe = mirror, describe
        self._folder, self._retention_s = folder, retention_days * _SECONDS_PER_DAY
        self._queue: list[Entry] = []
        self._queued_rows, self._numbers = 0, itertools.count()
        # Containers that share a folder may have equal process numbers.
        self._token = uuid.uuid4().hex[:8]
        self._changed, self._closed = threading.Condition(), threading.Event()
        self._threads = list[threading.Thread]()
        if folder is not None:
            self._recording = Worker("recording", MAX_AGE_S + _IDLE_S, metrics.publish_worker)
            self._expiry = Worker("expiry", EXPIRY_INTERVAL_S, metrics.publish_worker)
            self._threads = [
                background.start_thread(self._recording, self._record, self._closed),
                background.start_thread(self._expiry, self._expire, self._closed),
            ]

    def add(
        self,
        request_id: str,
        model: ServedModel,
        cells: list[DecodedCell],
        output: RunnerOutput,
        assessment: Assessment,
        numbers: Sequence[int] | None = None,
    ) -> None:
        """Queue `cells` with their runner output, assessment and `numbers` within the request, by default from 0."""
        if self._mirror:
            self._mirror(request_id, model, cells, output, assessment)
        if self._folder is None or not cells:
            return
        with self._changed:
            # Nobody writes after the end, such as what a request was answered with that did not end in time.
            if self._closed.is_set() or self._queued_rows + len(cells) > MAX_QUEUED_ROWS:
                metrics.UNRECORDED.inc(len(cells))
                return
            numbers = numbers or range(len(cells))
            self._queue.append(Entry(time.time(), request_id, model, cells, output, assessment, key_name(), numbers))
            self._queued_rows += len(cells)
            if self._queued_rows >= TABULATED_ROWS or len(self._queue) == 1:
                self._changed.notify()

    def close(self) -> None:
        """Write the queued rows, and stop."""
        with self._changed:
            self._closed.set()
            self._changed.notify()
        for thread in self._threads:
            thread.join()

    def _record(self) -> None:
        """Tabulate and write the queued rows as they come, until closed."""
        tables, rows, since = dict[Version, list[pa.Table]](), 0, math.inf
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closed.is_set(), 0 if rows else _IDLE_S)
                if self._queue or rows:
                    since = min(since, time.monotonic())
                    # For more rows, as long as the oldest may wait.
                    left = since + MAX_AGE_S - time.monotonic()
                    self._changed.wait_for(lambda: self._queued_rows >= TABULATED_ROWS or self._closed.is_set(), left)
                entries, self._queue, self._queued_rows = self._queue, [], 0
                closed = self._closed.is_set()
            new = self._tabulate(entries)
            del entries  # and the pixels
            for version, table in new:
                if table is not None:
                    tables.setdefault(version, []).append(table)
                    rows += len(table)
            fails = sum(table is None for _, table in new)
            if rows >= MAX_ROWS or closed or time.monotonic() >= since + MAX_AGE_S:
                fails += sum(not self._write(*version, some) for version, some in tables.items())
                tables, rows = {}, 0
            if not rows:
                since = math.inf
            if not fails:
                self._recording.succeed()
            if closed:
                return

    def _tabulate(self, entries: list[Entry]) -> list[tuple[Version, pa.Table | None]]:
        """Return the rows of each version, None where they are counted as lost."""
        tables = dict[Version, pa.Table | None]()
        for version, some in by_version(entries).items():
            tables[version] = None
            with self._counted(version[0], sum(len(entry.cells) for entry in some)):
                tables[version] = tabulate(some, self._describe)
        return list(tables.items())

    def _write(self, task: str, version: str, tables: list[pa.Table]) -> bool:
        """Write the rows of a version, or count them as lost; return whether they were written."""
        assert self._folder is not None
        with self._counted(task, sum(map(len, tables))):
            folder = self._folder / task
            folder.mkdir(parents=True, exist_ok=True)
            now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
            name = f"{now}-{version}-{os.getpid()}-{next(self._numbers)}-{self._token}.parquet"
            # Some have columns that others lack, of what files say of the acquisition.
            table = pa.concat_tables(tables, promote_options="permissive")
            with _removed_on_error(folder / f".{name}") as part:
                pq.write_table(table, part, compression="zstd")
                part.rename(folder / name)
            return True
        return False

    @contextlib.contextmanager
    def _counted(self, task: str, rows: int) -> Iterator[None]:
        """Count rows as lost where the block raises, whatever it is about them: the others must be written."""
        assert self._folder is not None
        try:
            yield
        except Exception as error:  # noqa: BLE001  see above
            metrics.UNRECORDED.inc(rows)
            reason = error.strerror if isinstance(error, OSError) else f"{type(error).__name__}: {error}"
            message = f"{plural.count(rows, 'prediction')} could not be written to {self._folder / task}: {reason}"
            self._recording.fail(RecordingError(message))

    def _expire(self) -> None:
        """Delete files after the retention time, until closed."""
        assert self._folder is not None
        while not self._closed.is_set():
            retention.expire_records(self._folder, time.time() - self._retention_s)
            self._expiry.succeed()
            self._closed.wait(EXPIRY_INTERVAL_S)


@contextlib.contextmanager
def _removed_on_error(part: Path) -> Iterator[Path]:
    try:
        yield part
    except BaseException:
        with contextlib.suppress(OSError):
            part.unlink()
        raise
