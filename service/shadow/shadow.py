"""The shadow: challengers answer what champions have answered, beside the requests and unseen by users.

A request only queues its decoded cells (`service.shadow.cell_queue`). A thread passes them on, a few at a time, to the
process of the challengers (`service.shadow.worker`), which compares, counts and records. Which versions challenge is
the matter of `service.shadow.versions`.
"""

import logging
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import numpy as np

from fatescope import plural
from fatescope.data.names import normalise
from fatescope.inference.uncertainty import Assessment
from service.inference.decoded_cell import DecodedCell
from service.inference.runner_output import RunnerOutput
from service.inference.served_model import ServedModel
from service.registry import challengers
from service.shadow.cell_queue import CellQueue, Entry
from service.shadow.process import ChallengerProcess, Job, Reply
from service.shadow.versions import Challenger, Standing, Versions

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

BATCH, CANARY_BATCH = 64, 8
"""Cells in one job; fewer where requests may have to wait for it to end."""
REST = 2.0
"""How long the challenger rests after a job, over how long that took: the longer, the busier the machine is."""


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
        self._everything, self._batch = everything, batch
        self._queue = CellQueue()
        self._versions = Versions(store, self._submit)
        self._resume_at = 0.0
        self._failure = ""
        """Why the last cells were not answered; empty where they were."""
        self.on_unlike: Callable[[Challenger, list[float]], None] = lambda *_: None
        """Called with the differences of each request that `ShadowRecords.add` returns."""
        self.on_verdict: Callable[[str, str, str, str], None] = lambda *_: None
        """Called with task, version, verdict of the labels, and its description."""
        self.on_failure: Callable[[str | None], None] = lambda _: None
        """Called when the process has crashed or was ended because it hung, with the task that it was at, if any."""
        self.on_check: Callable[[], None] = lambda: None
        """Called each time that it was looked which versions challenge."""
        # A GPU belongs to the champion.
        self.process = ChallengerProcess(
            command,
            is_wanted=self._is_wanted,
            on_start=self._versions.load_all,
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
        return self._queue.idle and self.process.idle

    def challenger(self, task: str) -> Challenger | None:
        """Return the version that challenges in a task, if it is loaded."""
        return self._versions.find_loaded(task)

    def challengers(self) -> dict[str, Challenger]:
        """Return task → version that challenges, loaded or not."""
        return self._versions.all()

    def standings(self) -> dict[str, Standing]:
        """Return task → how the version fares that has the alias, whether it challenges or not."""
        return self._versions.standings()

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
        found = self._versions.find(champion.task)
        # What the challenger answers itself is offered by the canary, with the champion's answer.
        if not cells or found is None or found.champion.version == champion.version:
            return
        entry = Entry(time.time(), request_id, model, 0, cells, output.distance, assessment)
        self._queue.put(entry, found.champion.version)

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
        job = self._job(found, [Entry(time.time(), "", model, 0, [cell], output.distance, output.assess(model.spec))])
        job.header |= {"truths": [truth], "groups": [parsed.group if parsed else None], "asked": [asked]}
        self.process.submit(job).add_done_callback(_log_failure)

    def _submit(self, job: Job) -> Future[Reply]:
        return self.process.submit(job)

    def _is_wanted(self) -> bool:
        """Return whether some version challenges; without one, nothing goes on waiting for it."""
        if self._versions.check():
            self.on_check()
        if not self._versions:
            self._queue.clear()
        return bool(self._versions)

    def _note_end(self, reason: str, job: Job | None) -> None:
        self._versions.unload_all()
        self.on_failure(job.header["task"] if job else None)
        if job and job.header["kind"] == "prepare":
            self._versions.delay(job.header["task"], job.header["version"], reason)

    def _hear(self, event: dict[str, Any]) -> None:
        self.on_verdict(event["task"], event["version"], event["verdict"], event["detail"])

    def _next_job(self) -> Job | None:
        """Return the next cells to compare, of one version of one task; None if there are none, or while it rests."""
        if time.monotonic() < self._resume_at:
            return None
        entries = self._queue.take(self._batch)
        if not entries:
            return None
        champion = entries[0].model.champion
        found = self.challenger(champion.task)
        if found is None:
            # It is not loaded yet, or not any more.
            self._drop(entries, self._versions.find(champion.task), "failed")
            return None
        if reason := challengers.why_incomparable(entries[0].model.spec, found.spec):
            self._drop(entries, found, "failed")
            self._versions.refuse(found.champion, reason)
            return None
        return self._comparison(found, entries)

    def _comparison(self, found: Challenger, entries: list[Entry]) -> Job | None:
        accepted = list[Entry]()
        for entry in entries:
            if all(cell.bit_depth in found.spec.bit_depths for cell in entry.cells):
                accepted.append(entry)
            else:
                self._drop([entry], found, "bit_depth")
        if not accepted:
            return None
        job = self._job(found, accepted)
        began = time.monotonic()

        def note(reply: Future[Reply]) -> None:
            cells = sum(len(entry.cells) for entry in accepted)
            failed = reply.exception() or reply.result()[0]["error"]
            if failed:
                if self._failure != str(failed):
                    log.warning("the challenger did not answer %s: %s", plural.count(cells, "cell"), failed)
                self._failure = str(failed)
                self._drop(accepted, found, "failed")
            else:
                self._failure = ""
                self._resume_at = time.monotonic() + REST * (time.monotonic() - began)
                self._queue.finish(cells)
                self.on_unlike(found, reply.result()[0]["unlike"])

        job.reply.add_done_callback(note)
        return job

    def _drop(self, entries: list[Entry], found: Challenger | None, reason: str) -> None:
        """Count cells of the queue that are not compared, all of one task."""
        cells = sum(len(entry.cells) for entry in entries)
        version = found.champion.version if found else ""
        self._queue.drop(entries[0].model.champion.task, version, cells, reason)

    def _job(self, found: Challenger, entries: list[Entry]) -> Job:
        model, own = entries[0].model, found.champion
        sizes = [len(entry.cells) for entry in entries]
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
            "dropped": self._queue.take_dropped(own.task, own.version),
        }
        probabilities = np.concatenate([entry.assessment.probabilities for entry in entries])
        distance = np.concatenate([entry.distance for entry in entries])
        crops = [cell.native for entry in entries for cell in entry.cells]
        return Job(header, [probabilities, distance, *crops])


def _log_failure(reply: Future[Reply]) -> None:
    if failed := reply.exception() or reply.result()[0]["error"]:
        log.warning("a label could not be compared: %s", failed)
