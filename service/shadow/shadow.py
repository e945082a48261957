"""The shadow: challengers answer what champions have answered, beside the requests and unseen by users.

A request only queues its decoded cells. A thread passes them on, a few at a time, to the process of the challengers
(`service.shadow.worker`), which compares, counts and records. What does not fit in the queue is dropped and counted.
"""

import logging
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fatescope.data.names import normalise
from fatescope.errors import BundleError
from fatescope.inference.bundle import Spec
from fatescope.inference.engine_names import GPU_ENGINES, EngineChoice
from fatescope.inference.uncertainty import Assessment
from service.inference.decoded_cell import DecodedCell
from service.inference.runner_output import RunnerOutput
from service.inference.served_model import ServedModel
from service.registry import challengers, model_store
from service.registry.model_store import Champion
from service.settings import ServiceSettings
from service.shadow import metrics
from service.shadow.frames import Array
from service.shadow.process import LOADING_S, ChallengerProcess, Job

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

MAX_QUEUED_CELLS = 1_000
"""Cells that wait for the challenger; more are dropped."""
MAX_QUEUED_PIXELS = 50_000_000
"""And their pixels, of images that may be large."""
BATCH, CANARY_BATCH = 64, 8
"""Cells in one job; fewer where requests may have to wait for it to end."""
REST = 2.0
"""How long the challenger rests after a job, over how long that took: the longer, the busier the machine is."""
CHECK_INTERVAL_S = 5.0
"""Time between two looks at which version is the challenger."""
RETRY_S = 600.0
"""Time after which a version that was refused is tried again."""


@dataclass(frozen=True)
class Challenger:
    """A version that challenges the champion of its task."""

    champion: Champion
    """Which version it is, and where."""
    spec: Spec
    engine: str = ""
    """Name of the engine that runs it; empty until it is loaded."""


@dataclass(frozen=True, eq=False)
class _Entry:
    """Cells of a request that the champion has answered."""

    time: float
    """Seconds since the epoch."""
    request_id: str
    model: ServedModel
    first: int
    """Which row of the call the first of them is."""
    cells: list[DecodedCell]
    distance: Array
    assessment: Assessment

    @property
    def pixels(self) -> int:
        """Return how many pixels the images have."""
        return sum(cell.native.size for cell in self.cells)

    def split(self, count: int) -> tuple["_Entry", "_Entry"]:
        """Return the first `count` cells, and the others."""
        return self._part(0, count), self._part(count, len(self.cells))

    def _part(self, start: int, stop: int) -> "_Entry":
        chosen = slice(start, stop)
        own = self.assessment
        assessment = Assessment(own.probabilities[chosen], own.sets[chosen], own.distance[chosen], own.verdicts[chosen])
        return replace(
            self, first=self.first + start, cells=self.cells[chosen], distance=self.distance[chosen],
            assessment=assessment,
        )  # fmt: skip


class Shadow:
    """The challengers of a gateway; `offer` may be called from any thread."""

    def __init__(
        self,
        store: Path,
        command: Callable[[int], list[str]],
        *,
        everything: bool = True,
        batch: int = BATCH,
        longest_wait_s: float = 60.0,
    ) -> None:
        """`store` is the folder of bundles, `command` starts the process of the challengers.

        `everything` asks for all cells that are answered, not only those that `offer_own` is given.
        """
        self._store, self._everything, self._batch = store, everything, batch
        self._queue: deque[_Entry] = deque()
        self._changing = threading.Lock()
        self._cells = 0
        """In the queue, or on their way through the process."""
        self._pixels = 0
        """Of those in the queue."""
        self._found: dict[str, Challenger] = {}
        self._retry_at: dict[Champion, float] = {}
        self._checked = float("-inf")
        self._dropped: Counter[tuple[str, str]] = Counter()
        self._reasons: dict[Champion, str] = {}
        self._resume_at = 0.0
        self._failure = ""
        """Why the last cells were not answered; empty where they were."""
        self.on_unlike: Callable[[Challenger, list[float]], None] = lambda *_: None
        """Called with the differences of each request that `ShadowRecords.add` returns."""
        self.on_verdict: Callable[[str, str, str, str], None] = lambda *_: None
        """Called with task, version, verdict of the labels, and its description."""
        self.on_failure: Callable[[], None] = lambda: None
        """Called when the process has crashed or was ended because it hung."""
        self.on_check: Callable[[], None] = lambda: None
        """Called every CHECK_INTERVAL_S."""
        # A GPU belongs to the champion.
        self.process = ChallengerProcess(
            command,
            is_wanted=self._is_wanted,
            on_start=self._start_all,
            next_job=self._next_job,
            on_event=self._hear,
            on_end=self._note_end,
            environment={"CUDA_VISIBLE_DEVICES": ""},
            longest_wait_s=longest_wait_s,
        )

    def start(self) -> None:
        """Start the process of the challengers."""
        self.process.start()

    def close(self) -> None:
        """End it."""
        self.process.close()

    @property
    def idle(self) -> bool:
        """Return whether nothing waits for an answer of a challenger."""
        return self._cells == 0 and self.process.idle

    def challenger(self, task: str) -> Challenger | None:
        """Return the version that challenges in a task, if it is loaded."""
        found = self._found.get(task)
        return found if found and found.engine else None

    def challengers(self) -> dict[str, Challenger]:
        """Return task → version that challenges, loaded or not."""
        return dict(self._found)

    def offer(
        self,
        request_id: str,
        model: ServedModel,
        cells: list[DecodedCell],
        output: RunnerOutput,
        assessment: Assessment,
    ) -> None:
        """Queue cells that `model` has answered, for the challenger to answer too."""
        if self._everything:
            self.offer_own(request_id, model, cells, output, assessment)

    def offer_own(
        self,
        request_id: str,
        model: ServedModel,
        cells: list[DecodedCell],
        output: RunnerOutput,
        assessment: Assessment,
    ) -> None:
        """Do the same whether or not everything is asked for."""
        champion = model.champion
        found = self._found.get(champion.task)
        # What the challenger answers itself is offered by the canary, with the champion's answer.
        if not cells or found is None or found.champion.version == champion.version:
            return
        entry = _Entry(time.time(), request_id, model, 0, cells, output.distance, assessment)
        pixels = entry.pixels
        with self._changing:
            full = self._cells + len(cells) > MAX_QUEUED_CELLS or self._pixels + pixels > MAX_QUEUED_PIXELS
            if full:
                self._dropped[champion.task, found.champion.version] += len(cells)
            else:
                self._queue.append(entry)
                self._cells += len(cells)
                self._pixels += pixels
        if full:
            metrics.DROPPED.labels(champion.task, found.champion.version, "queue").inc(len(cells))

    async def add_label(self, model: ServedModel, cell: DecodedCell, truth: str, *, asked: bool) -> None:
        """Have `model` and the challenger answer a cell whose class is known, and record both; nothing is raised.

        `asked` says that the cell was chosen to be labelled before anyone saw its answer.
        """
        found = self.challenger(model.champion.task)
        comparable = found and challengers.why_incomparable(model.spec, found.spec) is None
        if found is None or not comparable or cell.bit_depth not in found.spec.bit_depths:
            return
        try:
            output = await model.predict(cell.pixels[None])
        except Exception as error:  # noqa: BLE001  the label is stored all the same
            log.warning("a label could not be compared: %s", error)
            return
        parsed = model.decoder.parser.read(normalise(cell.file))
        job = self._job(found, [_Entry(time.time(), "", model, 0, [cell], output.distance, output.assess(model.spec))])
        job.header |= {"truths": [truth], "groups": [parsed.group if parsed else None], "asked": [asked]}
        self.process.submit(job).add_done_callback(_log_failure)

    def _is_wanted(self) -> bool:
        """Return whether some version challenges; without one, nothing goes on waiting for it."""
        self._check()
        if not self._found:
            self._clear()
        return bool(self._found)

    def _clear(self) -> None:
        """Drop what is in the queue, with the models and images that it holds."""
        with self._changing:
            left, self._pixels = list(self._queue), 0
            self._queue.clear()
        for entry in left:
            self._drop(entry.model.champion.task, None, len(entry.cells), "failed")

    def _check(self) -> None:
        """Note which versions challenge now."""
        if time.monotonic() - self._checked < CHECK_INTERVAL_S:
            return
        self._checked = time.monotonic()
        try:
            present = challengers.read_challengers(self._store)
        except (BundleError, OSError, ValueError) as error:
            log.warning("the challengers cannot be read: %s", error)
            return
        for task in self._found.keys() - present.keys():
            del self._found[task]
            metrics.publish_state(task, "absent")
        for champion in present.values():
            known = self._found.get(champion.task)
            if known is None or known.champion != champion:
                self._find(champion)
        self.on_check()

    def _find(self, champion: Champion) -> None:
        """Have a version that is new, or was refused a while ago, loaded."""
        if time.monotonic() < self._retry_at.get(champion, 0):
            return
        try:
            spec = model_store.read_spec(champion)
        except BundleError as error:
            self._refuse(champion, str(error))
            return
        self._found[champion.task] = Challenger(champion, spec)
        self._prepare(self._found[champion.task])

    def _refuse(self, champion: Champion, reason: str) -> None:
        self._found.pop(champion.task, None)
        self._retry_at[champion] = time.monotonic() + RETRY_S
        metrics.publish_state(champion.task, "refused")
        if self._reasons.get(champion) != reason:
            log.error("%s version %s does not challenge: %s", champion.name, champion.version, reason)
            self._reasons[champion] = reason

    def _start_all(self) -> None:
        for found in list(self._found.values()):
            self._prepare(found)

    def _prepare(self, found: Challenger) -> None:
        own = {"kind": "prepare", "task": found.champion.task, "version": found.champion.version}
        metrics.publish_state(found.champion.task, "starting")

        def note(reply: Any) -> None:  # noqa: ANN401  a future of a Reply
            if reply.exception() or self._found.get(found.champion.task) != found:
                return
            header = reply.result()[0]
            if header["error"]:
                self._refuse(found.champion, header["error"])
                return
            self._found[found.champion.task] = replace(found, engine=header["engine"])
            metrics.publish_state(found.champion.task, "running")
            name, version, engine = found.champion.name, found.champion.version, header["engine"]
            log.info("%s version %s challenges, run by %s", name, version, engine)

        self.process.submit(Job(own, limit_s=LOADING_S)).add_done_callback(note)

    def _note_end(self, _: str) -> None:
        for task, found in list(self._found.items()):
            self._found[task] = replace(found, engine="")
            metrics.publish_state(task, "waiting")
        self.on_failure()

    def _hear(self, event: dict[str, Any]) -> None:
        self.on_verdict(event["task"], event["version"], event["verdict"], event["detail"])

    def _next_job(self) -> Job | None:
        """Return the next cells to compare, of one version of one task; None if there are none, or while it rests."""
        if time.monotonic() < self._resume_at:
            return None
        entries, cells = list[_Entry](), 0
        with self._changing:
            while self._queue and cells < self._batch:
                entry = self._queue[0]
                if entries and entry.model.champion != entries[0].model.champion:
                    break
                self._queue.popleft()
                if cells + len(entry.cells) > self._batch:
                    entry, rest = entry.split(self._batch - cells)
                    self._queue.appendleft(rest)
                entries.append(entry)
                cells += len(entry.cells)
                self._pixels -= entry.pixels
        if not entries:
            return None
        champion = entries[0].model.champion
        found = self.challenger(champion.task)
        if found is None:
            # It is not loaded yet, or not any more.
            self._drop(champion.task, self._found.get(champion.task), cells, "failed")
            return None
        if reason := challengers.why_incomparable(entries[0].model.spec, found.spec):
            self._drop(champion.task, found, cells, "failed")
            self._refuse(found.champion, reason)
            return None
        return self._comparison(found, entries)

    def _comparison(self, found: Challenger, entries: list[_Entry]) -> Job | None:
        accepted = list[_Entry]()
        for entry in entries:
            if all(cell.bit_depth in found.spec.bit_depths for cell in entry.cells):
                accepted.append(entry)
            else:
                self._drop(found.champion.task, found, len(entry.cells), "bit_depth")
        if not accepted:
            return None
        job = self._job(found, accepted)
        cells, began = sum(len(entry.cells) for entry in accepted), time.monotonic()

        def note(reply: Any) -> None:  # noqa: ANN401  a future of a Reply
            failed = reply.exception() or reply.result()[0]["error"]
            if failed:
                if self._failure != str(failed):
                    log.warning("the challenger did not answer %d cells: %s", cells, failed)
                self._failure = str(failed)
                self._drop(found.champion.task, found, cells, "failed")
            else:
                self._failure = ""
                self._resume_at = time.monotonic() + REST * (time.monotonic() - began)
                with self._changing:
                    self._cells -= cells
                self.on_unlike(found, reply.result()[0]["unlike"])

        job.reply.add_done_callback(note)
        return job

    def _drop(self, task: str, found: Challenger | None, cells: int, reason: str) -> None:
        """Count cells of the queue that are not compared."""
        version = found.champion.version if found else ""
        with self._changing:
            self._cells -= cells
            self._dropped[task, version] += cells
        metrics.DROPPED.labels(task, version, reason).inc(cells)

    def _job(self, found: Challenger, entries: list[_Entry]) -> Job:
        model, own = entries[0].model, found.champion
        sizes = [len(entry.cells) for entry in entries]
        with self._changing:
            dropped = self._dropped.pop((own.task, own.version), 0)
        header = {
            "kind": "compare",
            "task": own.task,
            "version": own.version,
            "champion": model.champion.version,
            "classes": model.spec.classes,
            "times": np.repeat([entry.time for entry in entries], sizes).tolist(),
            "requests": np.repeat([entry.request_id for entry in entries], sizes).tolist(),
            "cells": [entry.first + i for entry in entries for i in range(len(entry.cells))],
            "verdicts": np.concatenate([entry.assessment.verdicts for entry in entries]).tolist(),
            "dropped": dropped,
        }
        probabilities = np.concatenate([entry.assessment.probabilities for entry in entries])
        distance = np.concatenate([entry.distance for entry in entries])
        crops = [cell.native for entry in entries for cell in entry.cells]
        return Job(header, [probabilities, distance, *crops])


def _log_failure(reply: Any) -> None:  # noqa: ANN401  a future of a Reply
    if failed := reply.exception() or reply.result()[0]["error"]:
        log.warning("a label could not be compared: %s", failed)


def worker_command(settings: ServiceSettings) -> Callable[[int], list[str]]:
    """Return the command of the process of the challengers, which gets the number of a file descriptor."""
    engine: EngineChoice | None = settings.engine
    chosen = engine if engine and engine not in {"gpu", *GPU_ENGINES} else "any"
    store = challengers.folder(model_store.store_folder(settings))
    # Requests wait for a challenger that answers some of them.
    priority = "normal" if settings.canary else "idle"
    arguments = [str(store.absolute()), str(settings.records or "off"), chosen, priority]
    return lambda descriptor: [sys.executable, "-m", "service.shadow.worker", str(descriptor), *arguments]
