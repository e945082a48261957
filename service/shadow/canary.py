"""The canary: a share of the requests for one cell is answered by the challenger, until an alarm takes the share back.

The same request, or the same client, always gets the same version. Where the challenger fails, or takes longer than the
limit for a decoded cell, the champion answers. An alarm is `error` or `time` (MAX_FAILURES of these within FAILURES_S,
or as many ends of its process), `unlike` (it finds cells unlike its training cells much more often than the champion),
or `labels` (it is worse, see `fatescope.inference.shadow_labels`). A version whose share was taken back gets none any
more, after a restart either, as `RECORDS/TASK/shadow/taken_back.json` says, until somebody deletes its entry.

Cells of a culture (/classify_batch, /classify_slices) stay with the champion, because one version must answer them all.
"""

import asyncio
import hashlib
import json
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import numpy as np
from starlette.datastructures import Headers
from starlette.types import Scope

from fatescope.atomic import replacing
from fatescope.inference.bets import Bets
from fatescope.inference.classification import place
from fatescope.inference.shadow_records import read_taken_back, taken_back_path
from service import tracing
from service.inference.batcher import Batcher, Pixels, Rows
from service.inference.classify import Record, answer_cell, classify_one, decode_cell, predict
from service.inference.decoded_cell import DecodedCell
from service.inference.decoding import CellDecoder
from service.inference.errors import NO_DECODER, RequestError
from service.inference.files import Upload
from service.inference.metrics import forget
from service.inference.page_decoder import PageDecoder
from service.inference.results import PredictionDict
from service.inference.served_model import ServedModel
from service.registry import challengers
from service.shadow import metrics
from service.shadow.process import ChallengerGoneError, Job
from service.shadow.shadow import Shadow
from service.shadow.versions import Challenger

log = logging.getLogger("bentoml.fatescope")  # BentoML shows its own loggers only

MAX_FAILURES, FAILURES_S = 3, 600.0
"""So many failures within so many seconds take the share back."""
UNLIKE_MARGIN = 0.1
"""By how much the share of cells unlike the training cells may be above that of the champion."""
UNLIKE_EVIDENCE = 100.0
"""Evidence that it is above: without it being so, it ever gets there once in a hundred."""
_HANG_S = 10.0
_Version = tuple[str, str]
Reason = Literal["error", "time", "unlike", "labels"]


class Canary:
    """Gives a share of the requests to the challengers of a Shadow; requests belong to one event loop."""

    def __init__(
        self, shadow: Shadow, folder: Path, share: float, by: Literal["request", "client"], limit_s: float
    ) -> None:
        """`folder` is that of the prediction log, or another that lasts.

        `limit_s` is the time that a decoded cell waits for the challenger.
        """
        self._shadow, self._folder, self._share, self._by, self._limit_s = shadow, folder, share, by, limit_s
        self._trials: dict[str, tuple[Challenger, ServedModel]] = {}
        self._failures: dict[_Version, deque[float]] = {}
        self._unlike: dict[_Version, Bets] = {}
        self._taken_back: dict[_Version, Reason] = {}
        self._pairs, self._tasks = set[asyncio.Task[None]](), set[str]()
        # `check` must not read the file between a note in memory and the same in the file.
        self._changing = threading.Lock()
        shadow.on_unlike, shadow.on_verdict = self._watch_unlike, self._watch_labels
        shadow.on_failure, shadow.on_check = self._watch_process, self.check

    def choose(self, model: ServedModel, scope: Scope, request_id: str) -> ServedModel | None:
        """Return the challenger if it is to answer a request in place of `model`, None if it is not."""
        task = model.champion.task
        found = self._shadow.challenger(task)
        if found is None or (task, found.champion.version) in self._taken_back:
            return None
        key = request_id if self._by == "request" else _client(scope)
        drawn = hashlib.sha256(f"{task} {found.champion.version} {key}".encode()).digest()
        if int.from_bytes(drawn[:8], "big") >= self._share * 2**64:
            return None
        if challengers.why_incomparable(model.spec, found.spec):
            return None
        known = self._trials.get(task)
        if known is None or known[0] != found:
            known = self._trials[task] = found, self._serve(found, model.decoder.pages)
        return known[1]

    async def classify_one(
        self,
        uploads: list[Upload],
        model: ServedModel,
        record: Record,
        scope: Scope,
        request_id: str,
        *,
        judge_quality: bool | None = None,
    ) -> tuple[ServedModel, DecodedCell, PredictionDict]:
        """Return the version that answered, the cell and its prediction; see `service.inference.classify`."""
        trial = self.choose(model, scope, request_id)
        if trial is None:
            return model, *await classify_one(uploads, model, record, judge_quality=judge_quality)
        tracing.annotate(task=trial.spec.task, version=trial.champion.version, cells=1)
        kept = list[Callable[[], None]]()

        def keep(*answered: object) -> None:
            kept.append(lambda: record(*answered))  # those of a Record

        own = trial.champion
        try:
            # The decoders are those of the champion, who would wait for them too.
            cell = await decode_cell(uploads, trial)
            answering = answer_cell(cell, trial, keep, judge_quality=judge_quality)
            prediction = await asyncio.wait_for(answering, self._limit_s)
        except Exception as error:  # noqa: BLE001  whatever it is, the champion answers
            # What the champion refuses too is no fault of the challenger.
            cell, prediction = await classify_one(uploads, model, record, judge_quality=judge_quality)
            metrics.CANARY_REQUESTS.labels(own.task, own.version, "champion").inc()
            if not _lacked_decoder(error):
                self._fail((own.task, own.version), "time" if isinstance(error, TimeoutError) else "error", repr(error))
            return model, cell, prediction
        metrics.CANARY_REQUESTS.labels(own.task, own.version, "challenger").inc()
        for add in kept:
            add()
        pair = asyncio.create_task(self._pair(model, cell, request_id))
        self._pairs.add(pair)
        pair.add_done_callback(self._pairs.discard)
        return trial, cell, prediction

    def check(self) -> None:
        """Note what was taken back, by another gateway or before a restart, and publish the shares."""
        with self._changing:
            self._check()

    def _check(self) -> None:
        challenging = self._shadow.challengers()
        versions = {(task, found.champion.version) for task, found in challenging.items()}
        for gone in self._taken_back.keys() - versions:
            # Another one challenges now, or none.
            self._publish_taken_back(gone, None)
        for task in self._tasks - challenging.keys():
            metrics.CANARY_SHARE.labels(task).set(0)
        self._tasks |= challenging.keys()
        for task, found in challenging.items():
            version = task, found.champion.version
            reason = read_taken_back(self._folder, task).get(found.champion.version, {}).get("reason")
            if reason is None and version in self._taken_back:
                # Somebody has looked into it.
                self._failures.pop(version, None)
                self._unlike.pop(version, None)
            self._publish_taken_back(version, reason)  # type: ignore[arg-type]  # one of them
            metrics.CANARY_SHARE.labels(task).set(0 if reason or not found.engine else self._share)

    def _publish_taken_back(self, version: _Version, reason: Reason | None) -> None:
        known = self._taken_back.get(version)
        if known and known != reason:
            forget(metrics.TAKEN_BACK, *version, known)
        if reason:
            metrics.TAKEN_BACK.labels(*version, reason).set(1)
            # Requests of another thread never find it without.
            self._taken_back[version] = reason
        else:
            self._taken_back.pop(version, None)

    def take_back(self, task: str, version: str, reason: Reason, detail: str) -> None:
        """Give the challenger no request any more."""
        with self._changing:
            self._take_back(task, version, reason, detail)

    def _take_back(self, task: str, version: str, reason: Reason, detail: str) -> None:
        if (task, version) in self._taken_back:
            return
        self._publish_taken_back((task, version), reason)
        metrics.CANARY_SHARE.labels(task).set(0)
        log.error(
            "the share of fatescope-%s version %s is taken back (%s): %s; the champion answers all", task, version,
            reason, detail,
        )  # fmt: skip
        path = taken_back_path(self._folder, task)
        known = read_taken_back(self._folder, task)
        known[version] = {"time": datetime.now(UTC).isoformat(timespec="seconds"), "reason": reason, "detail": detail}
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(path) as part:
                part.write_text(json.dumps(known, indent=1) + "\n", encoding="utf-8")
        except OSError as error:
            # `check` would give it the share again.
            self._share = 0
            log.error("%s cannot be written (%s): no version gets a share until the restart", path, error)  # noqa: TRY400  the error says it all

    def _serve(self, found: Challenger, pages: PageDecoder) -> ServedModel:
        own = found.champion

        async def call(pixels: Pixels) -> Rows:
            # The process is ended soon where it hangs, because requests wait for it.
            limit_s = _HANG_S + self._limit_s
            job = Job({"kind": "predict", "task": own.task, "version": own.version}, [pixels], limit_s)
            header, arrays = await asyncio.wrap_future(self._shadow.process.submit(job))
            if header["error"]:
                raise ChallengerGoneError(header["error"])
            return np.asarray(arrays[0], np.float32)

        return ServedModel(own, found.spec, found.engine, CellDecoder(found.spec, pages), Batcher(call, own.task))

    async def _pair(self, model: ServedModel, cell: DecodedCell, request_id: str) -> None:
        """Have the champion answer too, after the request, so that both can be compared."""
        try:
            output = await predict(model, place([cell.native], model.spec))
        except Exception as error:  # noqa: BLE001  nobody waits for it
            log.warning("a cell of the canary cannot be compared: %s", error)
            return
        self._shadow.offer_own(request_id, model, [cell], output, output.assess(model.spec))

    def _fail(self, version: _Version, reason: Reason, detail: str) -> None:
        failures, now = self._failures.setdefault(version, deque(maxlen=MAX_FAILURES)), time.monotonic()
        failures.append(now)
        if len(failures) == MAX_FAILURES and now - failures[0] < FAILURES_S:
            self.take_back(*version, reason, f"{MAX_FAILURES} failures within {FAILURES_S:.0f} s, the last: {detail}")

    def _watch_process(self, at: str | None) -> None:
        for task, found in self._shadow.challengers().items():
            # Not one for the fault of another.
            if at in (task, None):
                self._fail((task, found.champion.version), "error", "its process crashed or hung")

    def _watch_unlike(self, found: Challenger, differences: list[float]) -> None:
        version = found.champion.task, found.champion.version
        evidence = self._unlike.setdefault(version, Bets(UNLIKE_MARGIN)).add(differences)
        if evidence >= UNLIKE_EVIDENCE:
            detail = (
                f"more than {UNLIKE_MARGIN:.0%} of cells are unlike its training cells, and not unlike the champion's"
            )
            self.take_back(*version, "unlike", f"{detail} (evidence {evidence:.3g})")

    def _watch_labels(self, task: str, version: str, verdict: str, detail: str) -> None:
        if verdict == "worse":
            self.take_back(task, version, "labels", detail)


def _lacked_decoder(error: Exception) -> bool:
    """Return whether no process could decode a file, which may be otherwise a moment later."""
    return isinstance(error, RequestError) and error.code == NO_DECODER


def _client(scope: Scope) -> str:
    """Return what a client is known by: its key, else its address."""
    headers = Headers(scope=scope)
    if key := headers.get("authorization") or headers.get("x-api-key"):
        return hashlib.sha256(key.encode()).hexdigest()
    return str((scope.get("client") or ("",))[0])
