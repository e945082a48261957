"""The process of the challengers: `python -m service.shadow.worker FD STORE RECORDS ENGINE PRIORITY`.

It answers jobs from the gateway that started it, at the other end of the socket FD, one after the other, and ends with
it. STORE is the folder of the challengers, RECORDS that of the prediction log or `off`, ENGINE an inference engine or
`any`. With the PRIORITY `idle` it gets what time of the processor nothing else wants; it never uses a GPU.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, NoReturn, cast

from fatescope import processes
from fatescope.errors import FatescopeError
from fatescope.inference import bundle
from fatescope.inference.classification import place
from fatescope.inference.engine_names import EngineChoice
from service.inference.loaded_models import LoadedModels
from service.inference.runner_output import RunnerOutput
from service.registry import model_store
from service.shadow import frames
from service.shadow.frames import Array
from service.shadow.records import ShadowRecords

THREADS = 1
_POLL_S = 1.0
Reply = tuple[dict[str, Any], list[Array]]


class Worker:
    """Answers jobs."""

    def __init__(self, store: Path, records: Path | None, engine: EngineChoice | None) -> None:
        self._store = store
        self._models = LoadedModels(store, engine, THREADS)
        self._specs: dict[tuple[str, str], bundle.Spec] = {}
        self.records = ShadowRecords(records)

    def answer(self, job: dict[str, Any], arrays: list[Array]) -> Reply:
        """Return the reply to a job; it has `error` if the job failed."""
        try:
            reply = _JOBS[job["kind"]](self, job, arrays)
        except Exception as error:  # noqa: BLE001  an engine has as many errors as it likes
            expected = isinstance(error, FatescopeError)
            return {"id": job["id"], "kind": "failed", "error": str(error) if expected else repr(error)}, []
        return {"id": job["id"], "kind": job["kind"], "error": None, **reply[0]}, reply[1]

    def prepare(self, job: dict[str, Any], _: list[Array]) -> Reply:
        """Load a version; the reply is a Readiness."""
        task, version = job["task"], job["version"]
        readiness = self._models.prepare(task, version)
        if not readiness["error"]:
            self._specs[task, version] = bundle.read_spec(model_store.locate(self._store, task, version))
        return {**readiness}, []

    def predict(self, job: dict[str, Any], arrays: list[Array]) -> Reply:
        """Return the packed RunnerOutput of (n, H, W) pixels."""
        return {}, [self._models.predict(job["task"], job["version"], arrays[0])]

    def compare(self, job: dict[str, Any], arrays: list[Array]) -> Reply:
        """Answer cells that the champion has answered, and record both.

        The arrays are its (n, K) probabilities and (n,) distances, and the n crops.
        """
        spec, crops = self._specs[job["task"], job["version"]], arrays[2:]
        began = time.process_time()
        packed = self._models.predict(job["task"], job["version"], place(crops, spec))
        assessment = RunnerOutput.unpack(packed, len(spec.classes)).assess(spec)
        milliseconds = 1000 * (time.process_time() - began) / len(crops)
        # In the champion's order of the classes.
        order = [spec.classes.index(name) for name in job["classes"]]
        probabilities, champion = assessment.probabilities[:, order], (arrays[0], arrays[1])
        rows = self.records.add(job, champion, probabilities, assessment, crops, milliseconds)
        return {"unlike": rows}, []

    def forget(self, job: dict[str, Any], _: list[Array]) -> Reply:
        """Have done with a version that challenges no more."""
        self._specs.pop((job["task"], job["version"]), None)
        self.records.forget(job["task"], job["version"])
        return {}, []


_JOBS: dict[str, Callable[[Worker, dict[str, Any], list[Array]], Reply]] = {
    "prepare": Worker.prepare,
    "predict": Worker.predict,
    "compare": Worker.compare,
    "forget": Worker.forget,
}


def lower_priority() -> None:
    """Let this process have only what time of the processor nothing else wants."""
    os.nice(19)
    if hasattr(os, "SCHED_IDLE"):
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))


def serve(connection: Connection, worker: Worker) -> None:
    """Answer jobs until the other end is gone."""
    frames.send(connection, {"kind": "ready"})
    while True:
        if connection.poll(_POLL_S):
            frames.send(connection, *worker.answer(*frames.receive(connection)))
        for event in worker.records.work():
            frames.send(connection, {"kind": "verdict", **event})


def _end_with_parent() -> None:
    """End this process where its parent ends while it works on something that does not come to an end."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_POLL_S)
        os._exit(0)

    threading.Thread(target=watch, daemon=True).start()


def main(descriptor: str, store: str, records: str, engine: str, priority: str) -> None:
    """Serve the gateway at the other end of a socket until it is gone."""
    if priority == "idle":
        lower_priority()
    _end_with_parent()
    processes.end_first()
    chosen = None if engine == "any" else cast("EngineChoice", engine)
    worker = Worker(Path(store), None if records == "off" else Path(records), chosen)
    signal.signal(signal.SIGTERM, _leave)
    with Connection(int(descriptor)) as connection:
        try:
            serve(connection, worker)
        except (EOFError, OSError, _Terminated):
            worker.records.flush()


class _Terminated(BaseException):
    """A SIGTERM, which no job may take for an error of its own."""


def _leave(*_: object) -> NoReturn:
    raise _Terminated


if __name__ == "__main__":
    main(*sys.argv[1:])
