"""One row for each prediction, for `monitoring` to tell drift by: figures of the image, what was said of it, no pixels.

The folder is `FATESCOPE_RECORDS`, else `records` where the service was started; `off` writes nothing. Parquet files
`TASK/TIME-VERSION-PROCESS-NUMBER-TOKEN.parquet` of up to ROWS rows or SECONDS s are put there whole, and stay for
`FATESCOPE_RETENTION_DAYS` (30). Columns: `time` (UTC), `request_id`, `version`, `label`, `verdict`, `distance`,
`height`, `width`, `bit_depth`, the figures of `features.ACQUISITION`, `e0` and on (components of the embedding) and
`p_CLASS`.

Requests only put their cells aside; a thread works out the figures, many at a time, and forgets the pixels.
"""

import itertools
import logging
import os
import threading
import time
import uuid
from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope.data import features
from fatescope.inference.uncertainty import Assessment
from service.inference import metrics
from service.inference.decoding import Readable
from service.inference.model_pool import Model

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

FOLDER, DAYS = "FATESCOPE_RECORDS", "FATESCOPE_RETENTION_DAYS"
DEFAULT, OFF = "records", "off"
RETENTION_DAYS = 30.0
ROWS, SECONDS = 5_000, 10.0
"""A file is written when so many rows wait, or the first has waited so long."""
MOST = 50_000
"""Rows that may wait; where the disk cannot follow, more are counted as lost rather than held."""
_TIDY_S = 3600.0


@dataclass(frozen=True)
class _Answered:
    """What one call to the runner said of some cells of a request."""

    time: float
    request_id: str
    model: Model
    cells: list[Readable]
    rows: npt.NDArray[np.float32]
    judgement: Assessment


class Recorder:
    """Writes what a process has answered; `add` may be called from any thread."""

    def __init__(self, folder: Path | None, retention_days: float) -> None:
        """`folder` None records nothing."""
        self._folder, self._retention_s = folder, retention_days * 86400
        self._waiting: list[_Answered] = []
        self._count, self._numbers, self._tidied = 0, itertools.count(), 0.0
        # Containers that share a folder have processes of the same number.
        self._token = uuid.uuid4().hex[:8]
        self._changed, self._closed = threading.Condition(), False
        self._thread = threading.Thread(target=self._run, name="records", daemon=True)
        if folder is not None:
            self._thread.start()

    @classmethod
    def of_environment(cls) -> "Recorder":
        """Return what the environment asks for."""
        named = os.environ.get(FOLDER) or DEFAULT
        return cls(None if named == OFF else Path(named), float(os.environ.get(DAYS) or RETENTION_DAYS))

    def add(
        self,
        request_id: str,
        model: Model,
        cells: list[Readable],
        rows: npt.NDArray[np.float32],
        judgement: Assessment,
    ) -> None:
        """Put answers aside: the (B, K + 1 + C) `rows` that the runner said of `cells`, and what they come to."""
        if self._folder is None or not cells:
            return
        with self._changed:
            if self._count + len(cells) > MOST:
                metrics.UNRECORDED.inc(len(cells))
                return
            self._waiting.append(_Answered(time.time(), request_id, model, cells, rows, judgement))
            self._count += len(cells)
            if self._count >= ROWS or len(self._waiting) == 1:
                self._changed.notify()

    def close(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closed)
                # The first row has waited for nothing so far; more come in the meantime.
                self._changed.wait_for(lambda: self._count >= ROWS or self._closed, SECONDS)
                taken, self._waiting, self._count = self._waiting, [], 0
                closed = self._closed
            for task, answered in _by_task(taken).items():
                self._write(task, answered)
            if closed:
                return
            self._tidy()

    def _write(self, task: str, answered: list[_Answered]) -> None:
        assert self._folder is not None
        try:
            folder = self._folder / task
            folder.mkdir(parents=True, exist_ok=True)
            # Two versions may answer at the same time, and have other columns.
            for version, same in _by_version(answered).items():
                table = pa.table(_columns(same))
                now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
                name = f"{now}-{version}-{os.getpid()}-{next(self._numbers)}-{self._token}.parquet"
                pq.write_table(table, folder / f".{name}", compression="zstd")
                (folder / f".{name}").rename(folder / name)
        except OSError as error:
            lost = sum(len(each.cells) for each in answered)
            metrics.UNRECORDED.inc(lost)
            log.error("%d predictions could not be recorded in %s: %s", lost, self._folder, error.strerror)  # noqa: TRY400  no trace

    def _tidy(self) -> None:
        now = time.time()
        if self._folder is None or now - self._tidied < _TIDY_S:
            return
        self._tidied = now
        for path in self._folder.glob("*/*.parquet"):
            if now - path.stat().st_mtime > self._retention_s:
                path.unlink(missing_ok=True)


def _by_task(answered: list[_Answered]) -> dict[str, list[_Answered]]:
    found = defaultdict(list)
    for each in answered:
        found[each.model.spec.task].append(each)
    return found


def _by_version(answered: list[_Answered]) -> dict[str, list[_Answered]]:
    found = defaultdict(list)
    for each in answered:
        found[each.model.champion.version].append(each)
    return found


def _columns(answered: list[_Answered]) -> dict[str, Any]:
    """Return the columns of the rows of one version."""
    spec = answered[0].model.spec
    cells = [cell for each in answered for cell in each.cells]
    sizes = [len(each.cells) for each in answered]
    rows = np.concatenate([each.rows for each in answered])
    judged = Assessment.concatenate([each.judgement for each in answered])
    names = np.array(spec.classes)
    figures = _figures(cells)
    return {
        "time": pa.array(
            (np.repeat([each.time for each in answered], sizes) * 1e6).astype(np.int64), pa.timestamp("us", tz="UTC")
        ),
        "request_id": np.repeat([each.request_id for each in answered], sizes),
        "version": [answered[0].model.champion.version] * len(cells),
        "label": names[judged.probabilities.argmax(1)],
        "verdict": judged.verdicts,
        "distance": judged.distance,
        "height": np.array([cell.size[0] for cell in cells], np.int32),
        "width": np.array([cell.size[1] for cell in cells], np.int32),
        "bit_depth": np.array([cell.bit_depth for cell in cells], np.int32),
        **{name: figures[:, i] for i, name in enumerate(features.ACQUISITION)},
        **{f"e{i}": rows[:, len(names) + 1 + i] for i in range(rows.shape[1] - len(names) - 1)},
        **{f"p_{name}": judged.probabilities[:, i] for i, name in enumerate(names)},
    }


def _figures(cells: list[Readable]) -> npt.NDArray[np.float32]:
    """Return the (n, F) figures of native crops, those of one size at a time."""
    found = np.zeros((len(cells), len(features.ACQUISITION)), np.float32)
    alike = defaultdict(list)
    for i, cell in enumerate(cells):
        alike[cell.native.shape, cell.bit_depth].append(i)
    for (_, depth), places in alike.items():
        found[places] = features.acquisition(np.stack([cells[i].native for i in places]), depth)
    return found
