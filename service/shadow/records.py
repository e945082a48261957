"""Record what champion and challenger answered to the same cells; `fatescope.inference.shadow_records` reads it."""

import hashlib
import itertools
import logging
import os
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fatescope import plural
from fatescope.data.crops import pixel_hash
from fatescope.inference import shadow_records
from fatescope.inference.shadow_labels import judge_labels
from fatescope.inference.uncertainty import UNLIKE, Assessment
from service.inference import metrics as service_metrics
from service.shadow import metrics
from service.shadow.frames import Array

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

MAX_ROWS, MAX_AGE_S = 5_000, 10.0
"""A file is written once so many rows are there, or the oldest of them is so old."""
JUDGED_S = 60.0
"""Time between two looks at the labels."""
_DIRECTIONS = "better", "worse"
_Key = tuple[str, str, str]
"""Task, champion and challenger."""


class ShadowRecords:
    """Counts, records and judges the answers of challengers; belongs to one thread."""

    def __init__(self, folder: Path | None) -> None:
        """`folder` None records nothing; answers are counted all the same."""
        self._folder = folder
        self._rows: dict[tuple[_Key, bool], list[dict[str, Any]]] = defaultdict(list)
        self._oldest = self._judged = time.monotonic()
        self._numbers, self._token = itertools.count(), uuid.uuid4().hex[:8]
        self._watched = set[_Key]()

    def add(
        self,
        job: dict[str, Any],
        champion: tuple[Array, Array],
        probabilities: Array,
        assessment: Assessment,
        crops: list[Array],
        milliseconds: float,
    ) -> list[float]:
        """Add the n cells of a job.

        `champion` has its (n, K) probabilities and (n,) distances; both have probabilities in the order of `classes` of
        the job. Returns for each of its requests the share of cells that only the challenger finds unlike its training
        cells, less the share that only the champion does.
        """
        task, replaced, version = job["task"], job["champion"], job["version"]
        rows = _rows_of(job, champion, probabilities, assessment, crops, milliseconds)
        labelled = "truth" in rows[0]
        self._keep((task, replaced, version), rows, labelled=labelled)
        if labelled:
            self._count_labels(task, version, rows)
            return []
        self._count(task, version, rows, milliseconds)
        return _unlike(rows)

    def work(self) -> Iterator[dict[str, Any]]:
        """Do what is due: write files, and yield what the labels say of each challenger."""
        now = time.monotonic()
        if self._rows and (now - self._oldest > MAX_AGE_S or sum(map(len, self._rows.values())) >= MAX_ROWS):
            self.flush()
        if self._folder is not None and now - self._judged > JUDGED_S:
            self._judged = now
            yield from self._judge(self._folder)

    def forget(self, task: str, version: str) -> None:
        """Judge a version that challenges no more no further, and publish nothing of what its labels said."""
        self._watched = {known for known in self._watched if (known[0], known[2]) != (task, version)}
        for direction in _DIRECTIONS:
            service_metrics.forget(metrics.EVIDENCE, task, version, direction)

    def flush(self) -> None:
        """Write all rows."""
        kept, self._rows = self._rows, defaultdict(list)
        for (key, labelled), rows in kept.items():
            try:
                self._write(key, rows, labelled=labelled)
            # Whatever it is about these rows, the challenger goes on.
            except Exception as error:  # noqa: BLE001  see above
                service_metrics.UNRECORDED.inc(len(rows))
                answers = plural.count(len(rows), "answer")
                log.error("%s of a challenger could not be recorded: %s", answers, error)  # noqa: TRY400  the error says it all

    def _keep(self, key: _Key, rows: list[dict[str, Any]], *, labelled: bool) -> None:
        if key not in self._watched:
            # Another version may have challenged before.
            for replaced in {known[2] for known in self._watched if known[0] == key[0]} - {key[2]}:
                self.forget(key[0], replaced)
            self._watched = {known for known in self._watched if known[0] != key[0]} | {key}
        if self._folder is None:
            return
        if not self._rows:
            self._oldest = time.monotonic()
        self._rows[key, labelled] += rows

    def _write(self, key: _Key, rows: list[dict[str, Any]], *, labelled: bool) -> None:
        assert self._folder is not None
        task, champion, version = key
        folder = shadow_records.folder(self._folder, task)
        folder.mkdir(parents=True, exist_ok=True)
        now = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        prefix = shadow_records.LABELS if labelled else ""
        name = f"{prefix}{now}-{champion}-{version}-{os.getpid()}-{next(self._numbers)}-{self._token}.parquet"
        part = folder / f".{name}"
        try:
            pq.write_table(_table(rows), part, compression="zstd")
            part.rename(folder / name)
        except BaseException:
            part.unlink(missing_ok=True)
            raise

    def _judge(self, folder: Path) -> Iterator[dict[str, Any]]:
        for task, champion, version in self._watched:
            try:
                labels = shadow_records.read(folder, task, champion, version, labelled=True)
                judged = judge_labels(labels, datetime.now(UTC))
            # A damaged file is no reason to end the challenger, which would be taken for a crash.
            except Exception as error:  # noqa: BLE001  see above
                log.error("the labels of version %s of %s cannot be judged: %s", version, task, error)  # noqa: TRY400  the error says it all
                continue
            for direction, evidence in zip(_DIRECTIONS, (judged.better, judged.worse), strict=True):
                metrics.EVIDENCE.labels(task, version, direction).set(evidence)
            yield {"task": task, "version": version, "verdict": judged.verdict, "detail": judged.describe()}

    @staticmethod
    def _count(task: str, version: str, rows: list[dict[str, Any]], milliseconds: float) -> None:
        for verdicts, count in Counter((row["champion_verdict"], row["verdict"]) for row in rows).items():
            metrics.VERDICTS.labels(task, version, *verdicts).inc(count)
        same = sum(row["champion_label"] == row["label"] for row in rows)
        metrics.COMPARED.labels(task, version, "same").inc(same)
        metrics.COMPARED.labels(task, version, "other").inc(len(rows) - same)
        divergence, seconds = metrics.DIVERGENCE.labels(task, version), metrics.SECONDS.labels(task, version)
        for row in rows:
            divergence.observe(row["divergence"])
            seconds.observe(milliseconds / 1000)

    @staticmethod
    def _count_labels(task: str, version: str, rows: list[dict[str, Any]]) -> None:
        names = {(True, True): "both", (True, False): "champion", (False, True): "challenger"}
        for row in rows:
            right = row["champion_label"] == row["truth"], row["label"] == row["truth"]
            metrics.LABELLED.labels(task, version, names.get(right, "neither")).inc()


def _rows_of(
    job: dict[str, Any],
    champion: tuple[Array, Array],
    probabilities: Array,
    assessment: Assessment,
    crops: list[Array],
    milliseconds: float,
) -> list[dict[str, Any]]:
    """Return the rows of the n cells of a job, as for `add`; `truth` is in those of a label only."""
    classes = job["classes"]
    champion_probabilities, champion_distance = champion
    before, after = champion_probabilities.argmax(1), probabilities.argmax(1)
    divergence = np.abs(champion_probabilities - probabilities).sum(1) / 2
    truths = job.get("truths") or [None] * len(crops)
    rows: list[dict[str, Any]] = []
    for i, crop in enumerate(crops):
        row = {
            "time": job["times"][i],
            "request_id": job["requests"][i],
            "cell": job["cells"][i],
            "champion": job["champion"],
            "challenger": job["version"],
            "champion_label": classes[before[i]],
            "label": classes[after[i]],
            "champion_verdict": job["verdicts"][i],
            "verdict": str(assessment.verdicts[i]),
            "divergence": float(divergence[i]),
            "champion_distance": float(champion_distance[i]),
            "distance": float(assessment.distance[i]),
            "ms": milliseconds,
            "pixel_hash": hashlib.sha256(crop.tobytes()).hexdigest(),
            "image_hash": pixel_hash(crop),
            "dropped": job["dropped"] if i == 0 else 0,
            **{f"champion_p_{name}": float(champion_probabilities[i, k]) for k, name in enumerate(classes)},
            **{f"p_{name}": float(probabilities[i, k]) for k, name in enumerate(classes)},
        }
        if truths[i] is not None:
            row |= {"truth": truths[i], "group": job["groups"][i], "asked": job["asked"][i]}
        rows.append(row)
    return rows


def _unlike(rows: list[dict[str, Any]]) -> list[float]:
    by_request = defaultdict(list)
    for row in rows:
        by_request[row["request_id"]].append((row["verdict"] == UNLIKE) - (row["champion_verdict"] == UNLIKE))
    return [float(np.mean(differences)) for differences in by_request.values()]


def _table(rows: list[dict[str, Any]]) -> pa.Table:
    columns = {name: [row[name] for row in rows] for name in rows[0]}
    microseconds = (np.array(columns.pop("time")) * 1e6).astype(np.int64)
    times = pa.array(microseconds, pa.timestamp("us", tz="UTC"))
    text = {"group": pa.array(columns.pop("group"), pa.string())} if "group" in columns else {}
    return pa.table({"time": times, **columns, **text})
